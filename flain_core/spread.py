"""Auxiliary samples of which several holders have a part each, examined as if in one place.

Only sums travel: activations per input neuron, and whole numbers of samples that were classified
right. A holder may be a process, a machine, or a client of the federation; how questions reach it
is a short file of its own, see :class:`Holders`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from .activation import ActivationStatistics
from .errors import DataError, FlainError, FlainWarning
from .examiner import HolderLostError, Known
from .flipping_order import FlippingOrder
from .merging import Merging
from .network import Network
from .plausibility import check_answer
from .proof import Proof
from .question import Answer, Question, Setting
from .score import Scored, Tally
from .settings import whole_number

__all__ = ["Holders", "SpreadSamples"]


class Holders(Protocol):
    """How questions reach those who hold the samples: what another engine has to write."""

    @property
    def lookahead(self) -> int:
        """About how many candidates to ask at once: the more, the slower a question travels."""
        ...

    def open(self, network: Network) -> None:
        """Be ready for questions about this trained model and what ``replace`` makes of it."""
        ...

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Everyone's answer by name; an error stands for one that never came or cannot be read.

        Raises a :class:`~flain_core.FlainError` where nobody can be asked.
        """
        ...


@dataclass(frozen=True)
class SpreadSamples:
    """Implements :class:`~flain_core.examiner.AuxiliaryData` over several holders.

    Attributes:
        holders: Everyone who has a part of the samples.
        merging: How their findings are merged.
        probes: Names of the probes that holders measure as well, those who have samples of them.
        classify: Whether holders score by accuracy, so that totals are whole numbers of samples.
        may_leave: Whether a holder that does not answer, or answers what cannot be true, is left
            out with a warning, and the search starts again with the others. Otherwise that is an
            error, so that a result never rests on a part of the samples unnoticed.
        least: How many holders have to answer.
        known: What is known of all the samples, where whoever spread them has seen them.

    Raises:
        SettingsError: Not even one holder would have to answer.
    """

    holders: Holders
    merging: Merging = field(default_factory=Merging)
    probes: Sequence[str] = ()
    classify: bool = True
    may_leave: bool = False
    least: int = 1
    known: Known | None = None

    def __post_init__(self) -> None:
        whole_number(self.least, "least, in holders,", least=1)

    def examiner(self, network: Network) -> _SpreadExaminer:
        """Who asks the holders about this trained model."""
        self.holders.open(network)
        return _SpreadExaminer(self, network)


class _SpreadExaminer:
    """Implements :class:`~flain_core.examiner.Examiner`."""

    def __init__(self, samples: SpreadSamples, trained: Network) -> None:
        self._samples = samples
        self._trained = trained.layers()
        self._members: set[str] | None = None
        self._left: set[str] = set()
        self._counts: dict[str, int] = {}
        self._values: dict[str, int] = {}
        self.known = samples.known or Known(classify=samples.classify)

    def of(self, network: Network) -> Scored:
        """What a network scores, run in full by every holder."""
        (scored,) = self.scored(Question("in full", self.setting(network)))
        return scored

    def clean_tally(self, network: Network) -> Tally:
        """The same without the probes."""
        (scored,) = self.scored(Question("in full", self.setting(network), probes=False))
        return scored.clean

    def study(self, network: Network, layer: str) -> _SpreadStudy:
        """Have everyone run their samples once up to a layer."""
        setting = self.setting(network, layer)
        answers = self.answers(Question("statistics", setting))
        each = [one.statistics for one in answers if one.statistics]
        return _SpreadStudy(self, setting, self._samples.merging.statistics(each))

    def setting(self, network: Network, layer: str = "") -> Setting:
        """What tells holders of the trained model which one is meant."""
        changed = {
            name: each.weight
            for name, each in network.layers().items()
            if not np.array_equal(each.weight, self._trained[name].weight)
        }
        return Setting(changed, layer)

    @property
    def lookahead(self) -> int:
        """That of the holders."""
        return self._samples.holders.lookahead

    def scored(self, question: Question) -> list[Scored]:
        """What each candidate scores, merged."""
        answers = self.answers(question)
        by_candidate = zip(*(one.scored for one in answers), strict=True)
        merged = [self._samples.merging.scored(each) for each in by_candidate]
        unseen = set(self._samples.probes) - set(merged[0].probes) if question.probes else ()
        if unseen:
            raise DataError(f"no holder of auxiliary samples measured the probes {sorted(unseen)}")
        return merged

    def answers(self, question: Question) -> list[Answer]:
        """What everyone answers, in the order of their names.

        Raises:
            HolderLostError: Someone who was counted before is counted no longer.
            DataError: Too few are left, or one is missing and none may leave.
        """
        answers = self._samples.holders.ask(question)
        expected = (set(answers) if self._members is None else self._members) - self._left
        good: dict[str, Answer] = {}
        for name in sorted(expected):
            answer = self._checked(name, answers.get(name), question)
            if isinstance(answer, Answer):
                good[name] = answer
            else:
                self._leave(name, answer)
        if len(good) < self._samples.least:
            raise DataError(
                f"expected at least {self._samples.least} holders of auxiliary samples to answer; "
                f"{len(good)} did"
            )
        before, self._members = self._members, set(good)
        if before is not None and before != self._members:
            raise HolderLostError
        return list(good.values())

    def _checked(
        self, name: str, answer: Answer | FlainError | None, question: Question
    ) -> Answer | FlainError:
        """The answer, or what is wrong with it."""
        if not isinstance(answer, Answer):
            return answer if isinstance(answer, FlainError) else DataError("no answer came")
        try:
            check_answer(
                answer,
                question,
                layer=self._trained.get(question.setting.layer),
                probes=self._samples.probes,
                classify=self._samples.classify,
            )
        except DataError as error:
            return error
        if answer.statistics is not None:
            self._values[name] = answer.statistics.count
        for scored in answer.scored:
            count = self._counts.setdefault(name, scored.clean.count)
            if scored.clean.count != count:
                return DataError(f"it had {count} samples before, and {scored.clean.count} now")
            if self._values.get(name, count) % count:
                return DataError(
                    f"it has {count} samples, and statistics of {self._values[name]} values"
                )
        return answer

    def _leave(self, name: str, error: FlainError) -> None:
        if not self._samples.may_leave:
            raise DataError(f"{name}, which holds auxiliary samples, failed: {error}") from error
        self._left.add(name)
        warnings.warn(
            f"{name}, which holds auxiliary samples, is left out from now on: {error}",
            FlainWarning,
            stacklevel=2,
        )


@dataclass(frozen=True, eq=False)
class _SpreadStudy:
    """Implements :class:`~flain_core.examiner.Study`."""

    examiner: _SpreadExaminer
    setting: Setting
    statistics: ActivationStatistics

    def prove(self, flipping: FlippingOrder, *, seed: int) -> Proof:
        """Faithful where every holder finds it so."""
        question = Question("proof", self._flipping(flipping), seed=seed)
        proofs = [one.proof for one in self.examiner.answers(question) if one.proof]
        for proof in proofs:
            if not proof.faithful:
                return proof
        return max(proofs, key=lambda proof: proof.error)

    def incremental(
        self, flipping: FlippingOrder, *, window: float
    ) -> AbstractContextManager[_SpreadCandidates]:
        """Candidates that every holder scores from the layer on."""
        setting = replace(self._flipping(flipping), window=window)
        return nullcontext(_SpreadCandidates(self.examiner, setting, flipping))

    def _flipping(self, flipping: FlippingOrder) -> Setting:
        return replace(
            self.setting,
            initial=flipping.initial,
            factor=flipping.factor,
            order=flipping.order,
        )


@dataclass(frozen=True, eq=False)
class _SpreadCandidates:
    """Implements :class:`~flain_core.examiner.Candidates`."""

    examiner: _SpreadExaminer
    setting: Setting
    flipping: FlippingOrder

    @property
    def lookahead(self) -> int:
        """That of the holders."""
        return self.examiner.lookahead

    def advance(self, ends: Sequence[int]) -> list[Scored]:
        """What each candidate scores, merged."""
        return self.examiner.scored(Question("candidates", self.setting, tuple(ends)))

    def exactly(self, end: int) -> Tally:
        """The clean tally of the whole network with really flipped weights."""
        return self.examiner.clean_tally(self.flipping.candidate(end))
