"""Clean samples that clients of a federation keep to themselves; a stack supplies how to send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeAlias, TypeVar

from flain_core.errors import DataError, FlainError, SettingsError
from flain_core.network import Array, Network
from flain_core.outputs import OUTPUTS, Outputs
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.settings import Settings, one_of, whole_number

from .coordinator import CoordinatedSamples
from .merging import Merging, Rule
from .messages import Answer, Question
from .wire import printable, read_answer, write_question, write_trained

__all__ = ["Reply", "Trusted"]

Id = TypeVar("Id", int, str)

Reply: TypeAlias = Callable[[], Mapping[str, Array]]
"""Reads the arrays that a holder sent; raises the reason why there are none."""


@dataclass(frozen=True, kw_only=True)
class Trusted(ABC, Generic[Id]):
    """Clean samples that lie at trusted holders, as the ``data`` of a purification.

    It implements :class:`~flain_core.sample_source.SampleSource`. Each question carries the trained
    model, since holders forget it in between; an answer holds sums over all samples of a holder,
    never a sample. A holder that fails, does not answer in time, or answers what cannot be true, is
    left out with a warning, and the search starts again with the others. A holder that gave no
    answer is not asked again, so as to wait for it only once.

    ``docs/federated-auxiliary-data.md`` says what a holder that lies can do, and what the answers
    give away.

    A stack adds a field for the holders to ask and its name in ``argument``, how to send, and in
    ``kind`` and ``id_type`` a noun for a holder and the type of its id or name.

    Attributes:
        merging: Rule that merges findings: ``"sum"``, as if all samples were in one place; or
            ``"median"`` or ``"trimmed_mean"``, which bound what a minority that lies can do.
        trim: Share of the holders that ``"trimmed_mean"`` leaves out at either end.
        largest_share: Largest share of all samples that one of three holders or more can have; one
            that has more, or says so, counts as if it had fewer.
        least: Number of holders that have to answer, no fewer than 3 for ``"trimmed_mean"``; None
            for more than half of those asked.
        outputs: What the scores of a classifier are, ``"logits"`` or ``"probabilities"``; None has
            every holder recognise it.
        timeout: Seconds to wait for the answers to a question.
        lookahead: Number of thresholds to ask about in a message, roughly; a message is slow.

    Raises:
        SettingsError: A value is out of range or of the wrong type.
    """

    kind: ClassVar[str]
    argument: ClassVar[str]
    id_type: ClassVar[type]

    merging: Rule = "sum"
    trim: float = 0.2
    largest_share: float = 0.5
    least: int | None = None
    outputs: Outputs | None = None
    timeout: float = 300.0
    lookahead: int = 512

    def __post_init__(self) -> None:
        whom = self.whom
        if whom != "all" and (
            isinstance(whom, str)
            or not isinstance(whom, Sequence)
            or not all(isinstance(each, self.id_type) and each != "" for each in whom)
            or not 0 < len(set(whom)) == len(whom)
        ):
            noun = "id" if self.id_type is int else "name"
            raise SettingsError(
                f"expected {self.argument} to be the {noun}s of the trusted {self.kind}s (at least "
                f'one {self.kind} {noun}, each only once), or "all"; got {whom!r}'
            )
        _ = self._rule
        if self.outputs is not None:
            one_of(self.outputs, OUTPUTS, "outputs")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)):
            raise SettingsError(f"expected a timeout in seconds; got {self.timeout!r}")
        if not self.timeout > 0:
            raise SettingsError(f"expected a timeout of more than 0 seconds; got {self.timeout}")
        if self.least is not None:
            least = whole_number(self.least, f"least, in {self.kind}s,", least=1)
            object.__setattr__(self, "least", least)
        lookahead = whole_number(self.lookahead, "lookahead, in thresholds,", least=1)
        object.__setattr__(self, "lookahead", lookahead)

    @property
    def whom(self) -> Sequence[Id] | Literal["all"]:
        """Holders to ask; ``"all"`` for those that are connected when the first question comes."""
        whom: Sequence[Id] | Literal["all"] = getattr(self, self.argument)
        return whom

    @property
    def _rule(self) -> Merging:
        return Merging(self.merging, self.trim, self.largest_share)

    @abstractmethod
    def connected(self) -> Iterable[Id]:
        """Return all holders that are connected."""

    @abstractmethod
    def send(self, arrays: Mapping[str, Array], holders: Sequence[Id]) -> Mapping[Id, Reply]:
        """Send a question to some holders; leave out of the result those that do not answer."""

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples."""
        return SampleFacts()

    def scorer(self, network: Network, settings: Settings, seed: int) -> Scorer:
        """Return what asks the holders; raise DataError if fewer are there than have to answer."""
        holders = list(self.connected() if self.whom == "all" else self.whom)
        merging = self._rule
        least = len(holders) // 2 + 1 if self.least is None else self.least
        least = max(least, merging.least)
        if len(holders) < least:
            raise DataError(
                f"expected at least {least} trusted {self.kind}s to ask; there are {len(holders)}"
            )
        asked = _TrustedHolders(self, holders)
        samples = CoordinatedSamples(
            asked,
            merging,
            facts=self.facts,
            may_leave=True,
            least=least,
            outputs=self.outputs,
        )
        return samples.scorer(network, settings, seed)


class _TrustedHolders(Generic[Id]):
    """Implements :class:`~flain_core.federated.coordinator.Holders`."""

    def __init__(self, trusted: Trusted[Id], holders: Iterable[Id]) -> None:
        self.lookahead = trusted.lookahead
        self._trusted: Trusted[Id] = trusted
        self._holders: set[Id] = set(holders)

    def open(self, network: Network) -> None:
        """Prepare for questions about this trained model."""
        self._trained = write_trained(network)

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Return everyone's answer, and ask no more those that gave none."""
        holders = sorted(self._holders)
        replies = self._trusted.send(write_question(question) | self._trained, holders)
        answers = {holder: self._answer(replies.get(holder)) for holder in holders}
        self._holders = {holder for holder, each in answers.items() if isinstance(each, Answer)}
        return {self._name(holder): each for holder, each in answers.items()}

    def _answer(self, reply: Reply | None) -> Answer | FlainError:
        if reply is None:
            return DataError(f"no answer came within {self._trusted.timeout:g} seconds")
        try:
            return read_answer(reply())
        except FlainError as error:
            return DataError(printable(str(error)))
        except Exception as error:
            # Whatever a holder has sent, the others' samples can still be used.
            return DataError(f"its answer cannot be read ({type(error).__name__})")

    def _name(self, holder: Id) -> str:
        return holder if isinstance(holder, str) else f"{self._trusted.kind} {holder}"
