"""Clean samples that clients of a federation keep to themselves; a stack supplies how to send."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np

from flain_core.errors import DataError, FlainError, SettingsError
from flain_core.network import Array, Network
from flain_core.outcome.asked import Asked
from flain_core.outputs import OUTPUTS, Outputs
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.settings import Settings, one_of, whole_number

from .coordinator import CoordinatedSamples
from .letters import Letter, asks_for_all, keeps, letter_of, shortened
from .merging import Merging, Rule
from .messages import Answer, Question
from .wire import printable, read_answer, write_question, write_trained

__all__ = ["MissedError", "Reply", "Trusted"]

_MOST_TRIES = 10

Id = TypeVar("Id", int, str)
T = TypeVar("T")

Reply: TypeAlias = Callable[[], Mapping[str, Array]]
"""Reads the arrays that a holder sent; raises the reason why there are none."""


class MissedError(DataError):
    """A question did not reach a holder, or its answer got lost: asking again may help."""


@dataclass(frozen=True, kw_only=True)
class Trusted(ABC, Generic[Id]):
    """Clean samples that lie at trusted holders, as the ``data`` of a purification.

    It implements :class:`~flain_core.sample_source.SampleSource`. The first question carries the
    trained model, and so does each one to a holder that does not keep it; an answer holds sums over
    all samples of a holder, never a sample. A holder that does not answer in time, or cannot be
    reached, is asked again, and waited for twice as long. One that still gives no answer, fails, or
    answers what cannot be true, is left out with a warning, and the search starts again with the
    others.

    ``docs/lying-holders.md`` says what holders that lie can do, and
    ``docs/federated-auxiliary-data.md`` what the answers give away.

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
        timeout: Seconds to wait for the answers to a question; each time that a question is put
            again, twice as many.
        tries: How often a question is put to a holder that misses it, from 1 to 10.
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
    tries: int = 2

    def __post_init__(self) -> None:
        # NumPy's own types, as numpy.random.choice picks ids.
        whom: Any = _plain(self.whom)
        object.__setattr__(self, self.argument, whom)
        if not (isinstance(whom, str) and whom == "all") and (
            isinstance(whom, str)
            or not isinstance(whom, Sequence)
            or not all(isinstance(each, self.id_type) and each != "" for each in whom)
            or not 0 < len(set(whom)) == len(whom)
        ):
            noun, kind = ("id", "int") if self.id_type is int else ("name", "str")
            raise SettingsError(
                f"expected {self.argument} to be the {noun}s of the trusted {self.kind}s (at least "
                f"one {self.kind} {noun}, each only once and of the type {kind}), or "
                f'"all"; got {whom!r}'
            )
        merging = self._rule
        if self.outputs is not None:
            one_of(self.outputs, OUTPUTS, "outputs")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)):
            raise SettingsError(f"expected a timeout in seconds; got {self.timeout!r}")
        if not self.timeout > 0:
            raise SettingsError(f"expected a timeout of more than 0 seconds; got {self.timeout}")
        if self.least is not None:
            least = whole_number(self.least, f"least, in {self.kind}s,", least=1)
            object.__setattr__(self, "least", least)
        for name, what in (("lookahead", "lookahead, in thresholds,"), ("tries", "tries")):
            object.__setattr__(self, name, whole_number(getattr(self, name), what, least=1))
        if self.tries > _MOST_TRIES:
            raise SettingsError(
                f"expected tries to be at most {_MOST_TRIES}, as each waits twice as long as the "
                f"one before; got {self.tries}"
            )
        if self.whom != "all" and len(self.whom) < (needed := max(self.least or 1, merging.least)):
            raise SettingsError(
                f"expected at least {needed} {self.argument}, as merging={self.merging!r} and "
                f"least={self.least} need; got {len(self.whom)}"
            )

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
    def send(self, letters: Mapping[Id, Mapping[str, Array]], timeout: float) -> Mapping[Id, Reply]:
        """Send letters, each to a holder, and return the replies.

        Args:
            letters: Arrays by holder; holders that get the same have the same object.
            timeout: Seconds to wait.

        Returns:
            A reply by holder, without those that do not answer. It raises :class:`MissedError`
            where a holder was not reached, and any other error where it failed.
        """

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
        # Hashes of what each says that it keeps.
        self._kept: dict[Id, frozenset[str]] = {}
        self.asked = Asked(holders=len(self._holders), kind=trusted.kind)

    def open(self, network: Network) -> None:
        """Prepare for questions about this trained model."""
        self._trained = letter_of(write_trained(network))

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Return everyone's answer, and ask no more those that gave none."""
        letter = letter_of(write_question(question)) | self._trained
        self.asked = replace(self.asked, questions=self.asked.questions + 1)
        found: dict[Id, Answer | FlainError] = {}
        waiting = sorted(self._holders)
        for attempt in range(self._trusted.tries):
            found |= self._put(letter, waiting, self._trusted.timeout * 2**attempt)
            waiting = [each for each in waiting if isinstance(found[each], MissedError)]
            if not waiting:
                break
        self._holders = {holder for holder, each in found.items() if isinstance(each, Answer)}
        return {self._name(holder): found[holder] for holder in sorted(found)}

    def _put(
        self, letter: Letter, holders: Sequence[Id], timeout: float
    ) -> dict[Id, Answer | FlainError]:
        """Put a question to holders, and again in full to those that lack something."""
        replies = self._exchange(letter, {each: self._kept.get(each) for each in holders}, timeout)
        lacking = [
            holder
            for holder, reply in replies.items()
            if not isinstance(reply, FlainError) and asks_for_all(reply)
        ]
        if lacking:
            replies |= self._exchange(letter, dict.fromkeys(lacking), timeout)
        return {holder: self._answer(holder, reply) for holder, reply in replies.items()}

    def _exchange(
        self, letter: Letter, held: Mapping[Id, frozenset[str] | None], timeout: float
    ) -> dict[Id, Mapping[str, Array] | FlainError]:
        """Send a letter to holders, without what each of them holds, and read what they send."""
        # Holders that keep the same get the same letter.
        each_kind = {kept: shortened(letter, kept or ()) for kept in set(held.values())}
        letters = {holder: each_kind[kept] for holder, kept in held.items()}
        started = time.perf_counter()
        given = self._trusted.send(letters, timeout)
        replies = {holder: self._read(given.get(holder), timeout) for holder in letters}
        self.asked = replace(
            self.asked,
            messages=self.asked.messages + len(letters),
            bytes_down=self.asked.bytes_down + sum(map(_bytes, letters.values())),
            bytes_up=self.asked.bytes_up
            + sum(_bytes(each) for each in replies.values() if not isinstance(each, FlainError)),
            seconds=self.asked.seconds + time.perf_counter() - started,
        )
        return replies

    def _read(self, reply: Reply | None, timeout: float) -> Mapping[str, Array] | FlainError:
        if reply is None:
            return MissedError(f"no answer came within {timeout:g} seconds")
        return _or_error(lambda: dict(reply()))

    def _answer(self, holder: Id, reply: Mapping[str, Array] | FlainError) -> Answer | FlainError:
        if isinstance(reply, FlainError):
            return reply

        def read() -> Answer:
            self._kept[holder] = keeps(reply)
            if asks_for_all(reply):
                raise DataError("it lacks something of a question that left nothing out")
            return read_answer(reply)

        return _or_error(read)

    def _name(self, holder: Id) -> str:
        return holder if isinstance(holder, str) else f"{self._trusted.kind} {holder}"


def _or_error(read: Callable[[], T]) -> T | FlainError:
    """Whatever a holder has sent, the others' samples can still be used."""
    try:
        return read()
    except FlainError as error:
        kind = MissedError if isinstance(error, MissedError) else DataError
        return kind(printable(str(error)))
    except Exception as error:
        return DataError(f"its answer cannot be read ({type(error).__name__})")


def _bytes(arrays: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in arrays.values() if isinstance(array, np.ndarray))


def _plain(whom: object) -> object:
    """Return holders as Python's own numbers and strings, where NumPy's were given."""
    if isinstance(whom, np.ndarray):
        return whom.tolist()
    if isinstance(whom, (list, tuple)) and any(isinstance(each, np.generic) for each in whom):
        return [each.item() if isinstance(each, np.generic) else each for each in whom]
    return whom
