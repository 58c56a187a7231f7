"""Auxiliary samples of which several holders have a part each, scored as if in one place.

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

from flain_core.activation import ActivationStatistics
from flain_core.errors import DataError, FlainError, FlainWarning
from flain_core.flipping import FlippingOrder
from flain_core.network import Network
from flain_core.proof import Proof
from flain_core.sample_source import HolderLostError, SampleFacts
from flain_core.score import Scored, Tally
from flain_core.settings import whole_number

from .checks import Record, check_answer
from .merging import Merging
from .messages import Answer, ModelState, Question, Task

__all__ = ["CoordinatedSamples", "Holders"]

_LOOKAHEAD_IN_FULL = 16


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
class CoordinatedSamples:
    """Implements :class:`~flain_core.sample_source.SampleSource` over several holders.

    Attributes:
        holders: Everyone who has a part of the samples.
        merging: How their findings are merged.
        probes: Names of the probes that holders measure as well, those who have samples of them.
        facts: What is known of all the samples.
        may_leave: Whether a holder that does not answer, answers what cannot be true, or
            contradicts itself, is left out with a warning, and the search starts again with the
            others. Otherwise a missing or impossible answer is an error, so that a result never
            rests on a part of the samples unnoticed.
        least: How many holders have to answer.

    Raises:
        SettingsError: Not even one holder would have to answer.
    """

    holders: Holders
    merging: Merging = field(default_factory=Merging)
    probes: Sequence[str] = ()
    facts: SampleFacts = field(default_factory=SampleFacts)
    may_leave: bool = False
    least: int = 1

    def __post_init__(self) -> None:
        whole_number(self.least, "least, in holders,", least=1)

    def scorer(self, network: Network) -> _Coordinator:
        """Open the holders for questions about this trained model."""
        self.holders.open(network)
        return _Coordinator(self, network)


class _Coordinator:
    """Implements :class:`~flain_core.sample_source.Scorer`."""

    def __init__(self, samples: CoordinatedSamples, trained: Network) -> None:
        self._samples = samples
        self._trained = trained.layers()
        self._members: set[str] | None = None
        self._left: set[str] = set()
        self._counts: dict[str, int] = {}
        self._values: dict[str, int] = {}

    def score_of(self, network: Network, *, probes: bool = True) -> Scored:
        """Have every holder run a network in full."""
        (scored,) = self.merged(self.in_full(network, probes=probes), probes=probes)
        return scored

    def in_full(self, network: Network, *, probes: bool = True) -> Mapping[str, Answer]:
        """Ask everyone what a network scores."""
        return self.answers(Question("in full", self.state(network), probes=probes))

    def study(self, network: Network, layer: str) -> _CoordinatedLayer:
        """Have everyone run their samples once up to a layer."""
        state = self.state(network, layer)
        answers = self.answers(Question("statistics", state)).values()
        each = [one.statistics for one in answers if one.statistics]
        return _CoordinatedLayer(self, state, self._samples.merging.statistics(each))

    def state(self, network: Network, layer: str = "") -> ModelState:
        """What tells holders of the trained model which one is meant."""
        changed = {
            name: each.weight
            for name, each in network.layers().items()
            if not np.array_equal(each.weight, self._trained[name].weight)
        }
        return ModelState(changed, layer)

    @property
    def lookahead(self) -> int:
        """That of the holders."""
        return self._samples.holders.lookahead

    def merged(self, answers: Mapping[str, Answer], *, probes: bool = True) -> list[Scored]:
        """What each candidate scores, according to all answers together."""
        by_candidate = zip(*(one.scored for one in answers.values()), strict=True)
        merged = [self._samples.merging.scored(each) for each in by_candidate]
        unseen = set(self._samples.probes) - set(merged[0].probes) if probes else ()
        if unseen:
            raise DataError(f"no holder of auxiliary samples measured the probes {sorted(unseen)}")
        return merged

    def answers(self, question: Question) -> Mapping[str, Answer]:
        """What everyone answers by name, in the order of their names.

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
        self._counted_on(set(good))
        return good

    def confront(self, contradictions: Mapping[str, DataError]) -> None:
        """Leave out those who contradict themselves.

        Where half of all or more do, it is rather the cut that is wrong.

        Raises:
            HolderLostError: Someone was left out.
            DataError: Too few are left.
        """
        members = self._members or set()
        if not self._samples.may_leave or 2 * len(contradictions) >= len(members):
            return
        for name, error in contradictions.items():
            self._leave(name, error)
        self._counted_on(members - set(contradictions))

    def _counted_on(self, members: set[str]) -> None:
        if len(members) < self._samples.least:
            raise DataError(
                f"expected at least {self._samples.least} holders of auxiliary samples to answer; "
                f"{len(members)} did"
            )
        before, self._members = self._members, members
        if before is not None and before != members:
            raise HolderLostError

    def _checked(
        self, name: str, answer: Answer | FlainError | None, question: Question
    ) -> Answer | FlainError:
        """The answer, or what is wrong with it."""
        if not isinstance(answer, Answer):
            return answer if isinstance(answer, FlainError) else DataError("no answer came")
        layer = question.state.layer
        try:
            check_answer(
                answer,
                question,
                layer=self._trained[layer] if layer else None,
                probes=self._samples.probes,
                classify=self._samples.facts.classify,
            )
        except DataError as error:
            return error
        if answer.statistics is not None:
            self._values[name] = answer.statistics.count
        for scored in answer.scored:
            count = self._counts.setdefault(name, scored.clean.count)
            if scored.clean.count != count:
                return DataError(f"it had {count} samples before, and {scored.clean.count} now")
            values = self._values.get(name, count)
            if values % count:
                return DataError(f"it has {count} samples, and statistics of {values} values")
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
class _CoordinatedLayer:
    """Implements :class:`~flain_core.sample_source.LayerScorer`."""

    scorer: _Coordinator
    state: ModelState
    statistics: ActivationStatistics

    def prove(self, flipping: FlippingOrder, *, seed: int) -> Proof:
        """Faithful where every holder finds it so."""
        question = Question("proof", self._flipping(flipping), seed=seed)
        proofs = [one.proof for one in self.scorer.answers(question).values() if one.proof]
        for proof in proofs:
            if not proof.faithful:
                return proof
        return max(proofs, key=lambda proof: proof.error)

    def candidates(
        self, flipping: FlippingOrder, *, window: float | None
    ) -> AbstractContextManager[_CoordinatedCandidates]:
        """Score candidates from the layer on, or by having every holder run the whole network."""
        state = self._flipping(flipping)
        task: Task = "in full" if window is None else "candidates"
        state = replace(state, window=window or 0.0)
        return nullcontext(_CoordinatedCandidates(self.scorer, state, flipping, task))

    def _flipping(self, flipping: FlippingOrder) -> ModelState:
        return replace(
            self.state,
            initial=flipping.initial,
            factor=flipping.factor,
            order=flipping.order,
        )


@dataclass(frozen=True, eq=False)
class _CoordinatedCandidates:
    """Implements :class:`~flain_core.sample_source.Candidates`."""

    scorer: _Coordinator
    state: ModelState
    flipping: FlippingOrder
    task: Task
    record: Record = field(default_factory=Record)

    @property
    def lookahead(self) -> int:
        """That of the holders, as far as candidates are cheap."""
        lookahead = self.scorer.lookahead
        return min(lookahead, _LOOKAHEAD_IN_FULL) if self.task == "in full" else lookahead

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Ask what each candidate scores, and merge the answers."""
        answers = self.scorer.answers(Question(self.task, self.state, tuple(n_flipped)))
        self.record.keep(n_flipped, answers, exact=self.task == "in full")
        return self.scorer.merged(answers)

    def score_in_full(self, n_flipped: int) -> Tally:
        """Return the clean tally of the whole network with really flipped weights."""
        answers = self._confronted(self.flipping.candidate(n_flipped), n_flipped, probes=False)
        self.record.keep([n_flipped], answers, exact=True)
        return self.scorer.merged(answers, probes=False)[0].clean

    def confirm(self, network: Network, n_flipped: int) -> Scored:
        """Score the candidate as it was written into ``network``, run in full."""
        return self.scorer.merged(self._confronted(network, n_flipped, probes=True))[0]

    def _confronted(
        self, network: Network, n_flipped: int, *, probes: bool
    ) -> Mapping[str, Answer]:
        answers = self.scorer.in_full(network, probes=probes)
        self.scorer.confront(self.record.contradictions(n_flipped, answers))
        return answers
