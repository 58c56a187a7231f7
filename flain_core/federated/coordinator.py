"""Scores auxiliary samples that lie with several holders as if they were in one place.

Only sums travel: activations per input neuron, whole numbers of samples that were classified right,
and by how much the probability of their classes fell. A holder may be a process, a machine, or a
client of the federation; how questions reach it is a short file of its own, see :class:`Holders`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.errors import (
    DataError,
    FlainError,
    FlainWarning,
    SettingsError,
    levels_to_caller,
    listed,
)
from flain_core.flipping_order import FlippingOrder
from flain_core.in_directions.directions import Flipping
from flain_core.network import Array, Network
from flain_core.outcome.asked import Asked
from flain_core.outputs import OUTPUTS, Outputs, Reading
from flain_core.proof import Proof
from flain_core.sample_source import Candidates, HolderLostError, SampleFacts
from flain_core.settings import Measure, Settings, one_of, whole_number
from flain_core.tallies import Scored, Tally

from .checks import (
    check_against_trained,
    check_answer,
    check_reading,
    contradiction,
    readings_apart,
)
from .merging import Merging
from .messages import Answer, ModelState, Question, Task

__all__ = ["CoordinatedSamples", "Holders"]

_LOOKAHEAD_IN_FULL = 16


class Holders(Protocol):
    """The way of questions to the holders of samples and back; another engine writes its own."""

    @property
    def lookahead(self) -> int:
        """Number of candidates to ask about at once, roughly; more where questions are slow."""
        ...

    def open(self, network: Network) -> None:
        """Prepare for questions about this trained model and what ``replace`` makes of it."""
        ...

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Return everyone's answer by name, or an error if none came or it cannot be read.

        Raises a :class:`~flain_core.FlainError` where nobody can be asked.
        """
        ...


@dataclass(frozen=True)
class CoordinatedSamples:
    """Implements :class:`~flain_core.sample_source.SampleSource` over several holders.

    Attributes:
        holders: The holders, each with a part of the samples.
        merging: The rule that merges their findings.
        probes: Names of the probes that holders measure as well, if they have samples of them.
        facts: Facts about all the samples together.
        may_leave: Whether a holder that does not answer, answers what cannot be true, or
            contradicts itself, is left out with a warning, and the search starts again with the
            others. Otherwise a missing or impossible answer is an error, so that a result never
            rests on a part of the samples unnoticed.
        outputs: What the scores of a classifier are; None has every holder recognise it, and leaves
            out those that take them for something else than most do.
        least: Number of holders that have to answer; no fewer than the merging rule needs.

    Raises:
        SettingsError: Not even one holder would have to answer, or there are no such outputs.
    """

    holders: Holders
    merging: Merging = field(default_factory=Merging)
    probes: Sequence[str] = ()
    facts: SampleFacts = field(default_factory=SampleFacts)
    may_leave: bool = False
    least: int = 1
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        whole_number(self.least, "least, in holders,", least=1)
        if self.outputs is not None:
            one_of(self.outputs, OUTPUTS, "outputs")

    def scorer(
        self,
        network: Network,
        settings: Settings,
        seed: int,  # noqa: ARG002
    ) -> Coordinator:
        """Open the holders for questions about this trained model."""
        self.holders.open(network)
        return Coordinator(self, network, settings.measure)


class Coordinator:
    """Implements :class:`~flain_core.sample_source.Scorer`."""

    held_back = None

    def __init__(self, samples: CoordinatedSamples, trained: Network, measure: Measure) -> None:
        self.samples = samples
        self.left_out: list[str] = []
        self.reading: Reading | None = None
        """How the holders read the scores of the trained model; None until they were asked."""
        self._measure = measure
        self._asks_for_loss = self._by_probability = measure != "score"
        self._read_by: set[str] = set()
        self._trained = trained.layers()
        self._members: set[str] | None = None
        # What each holder said, so that what it says later can be held against it: how many samples
        # it has; how many values its statistics are of; what the trained model scores, from a layer
        # on and in full, as a cut that is not faithful must make no honest holder look like a liar;
        # and what each candidate of the search under way scores.
        self._samples_of: dict[str, int] = {}
        self._values_of: dict[str, int] = {}
        self._trained_scores: dict[tuple[str, Task], Scored] = {}
        self._said: dict[tuple[str, int], Scored] = {}
        self._searched = ModelState()
        # How each reads the scores of the trained model, as it said first: later it may have run
        # the model in another way.
        self._readings: dict[str, Reading] = {}

    @property
    def asked(self) -> Asked | None:
        """What the questions took so far; None where the way to the holders does not count."""
        asked: Asked | None = getattr(self.samples.holders, "asked", None)
        return asked if isinstance(asked, Asked) else None

    def score_of(
        self, network: Network, *, probes: bool = True, candidate: int | None = None
    ) -> Scored:
        """Have every holder run a network in full, and confront those that contradict themselves.

        A holder contradicts itself if it said something else of the candidate in the search.
        """
        if candidate is None:
            answers = self.answers(Question("in full", self._state(network), probes=probes))
        else:
            # The weight of a candidate follows from the initial one, which the holders have.
            answers = self.answers(Question("in full", self._searched, (candidate,), probes=probes))
            self._confront(answers, candidate)
        (scored,) = self._merged(answers, "in full", probes=probes)
        return scored

    def study(self, network: Network, layer: str) -> tuple[ActivationStatistics, None]:
        """Have everyone run their samples once up to a layer."""
        answers = self.answers(Question("statistics", self._state(network, layer))).values()
        each = [one.statistics for one in answers if one.statistics]
        return self.samples.merging.statistics(each), None

    def prove(self, flipping: Flipping, *, seed: int) -> Proof:
        """Call the cut faithful where every holder finds it so."""
        question = Question("proof", self._flipped(flipping), seed=seed)
        proofs = [one.proof for one in self.answers(question).values() if one.proof]
        return max(proofs, key=lambda proof: (not proof.faithful, proof.error))

    def toward_classes(self, updates: Array) -> None:
        """Nothing is flipped in directions, so nobody is asked."""

    def candidates(
        self, flipping: Flipping, *, window: float | None
    ) -> AbstractContextManager[Candidates]:
        """Score candidates from the layer on, or by having every holder run the whole network."""
        self._said = {}
        lookahead = self.samples.holders.lookahead
        task: Task = "candidates"
        if window is None:
            task, lookahead = "in full", min(lookahead, _LOOKAHEAD_IN_FULL)
        self._searched = replace(self._flipped(flipping), window=window or 0.0)

        def in_full(number: int) -> Scored:
            return self.score_of(flipping.candidate(number), probes=False, candidate=number)

        return nullcontext(
            Candidates(partial(self._advance, task, self._searched), in_full, lookahead)
        )

    def _advance(self, task: Task, state: ModelState, n_flipped: Sequence[int]) -> list[Scored]:
        """Ask what each candidate scores, and merge the answers."""
        answers = self.answers(Question(task, state, tuple(n_flipped)))
        for name, answer in answers.items():
            for number, scored in zip(n_flipped, answer.scored, strict=True):
                # Rounding is no excuse where the candidate was run in full.
                self._said[name, number] = scored.as_exact() if task == "in full" else scored
        return self._merged(answers, task)

    def _flipped(self, flipping: Flipping) -> ModelState:
        """Describe a network and how one of its layers is flipped."""
        if not isinstance(flipping, FlippingOrder):
            raise SettingsError("samples elsewhere can only steer the flipping of neurons")
        state = self._state(flipping.network, flipping.layer.name)
        initial, factor, order = flipping.initial, flipping.factor, flipping.order
        return replace(state, initial=initial, factor=factor, order=order)

    def _state(self, network: Network, layer: str = "") -> ModelState:
        """Describe a network to holders of the trained model."""
        changed = {
            name: each.weight
            for name, each in network.layers().items()
            if not np.array_equal(each.weight, self._trained[name].weight)
        }
        return ModelState(changed, layer)

    def _merged(
        self, answers: Mapping[str, Answer], task: Task, *, probes: bool = True
    ) -> list[Scored]:
        """Return what each candidate scores, according to all answers to a task together."""
        trained = self._trained_tallies(answers, task)
        merged = [
            self.samples.merging.scored(
                each if self._by_probability else [replace(one, loss=None) for one in each], trained
            )
            for each in zip(*(one.scored for one in answers.values()), strict=True)
        ]
        unseen = set(self.samples.probes) - set(merged[0].probes) if probes else ()
        if unseen:
            raise DataError(f"no holder of auxiliary samples measured the probes {sorted(unseen)}")
        return merged

    def answers(self, question: Question) -> Mapping[str, Answer]:
        """Return everyone's answer by name, in the order of the names.

        Raises HolderLostError if a holder that was counted before is counted no longer.
        """
        question = replace(question, loss=self._asks_for_loss, outputs=self.samples.outputs)
        answers = self.samples.holders.ask(question)
        expected = set(answers) if self._members is None else self._members
        good: dict[str, Answer] = {}
        for name in sorted(expected):
            try:
                good[name] = self._checked(name, answers.get(name), question)
            except FlainError as error:  # noqa: PERF203
                self._leave(name, error)
        for name, apart in readings_apart(good).items():
            self._leave(name, apart)
            del good[name]
        self._count_on(set(good))
        if question.of_trained and self._read_by != set(good):
            self._read(good)
        return good

    def _read(self, answers: Mapping[str, Answer]) -> None:
        """Merge how holders read the trained model's scores, and decide what to measure by them."""
        if not answers.keys() <= self._readings.keys():
            return  # a score of their own
        readings = [self._readings[name] for name in answers]
        merging, trained = self.samples.merging, [one.scored[0].clean for one in answers.values()]
        reading = merging.reading(readings, trained)
        self.reading = replace(reading, stated=self.samples.outputs is not None)
        self._read_by = set(answers)
        if self._measure == "auto":
            self._by_probability = not self.reading.is_unsure(merging.tally(trained).mean)

    def _confront(self, answers: Mapping[str, Answer], candidate: int) -> None:
        """Leave out holders that contradict themselves, and raise HolderLostError if there are any.

        If half of them or more do, the cut is to blame rather than they.
        """
        contradictions: dict[str, DataError] = {}
        for name, answer in answers.items():
            now = answer.scored[0]
            if error := contradiction(self._said.get((name, candidate), now), now):
                contradictions[name] = error
            self._said[name, candidate] = now.as_exact()
        members = self._members or set()
        if not self.samples.may_leave or 2 * len(contradictions) >= len(members):
            return
        for name, error in contradictions.items():
            self._leave(name, error)
        self._count_on(members - set(contradictions))

    def _count_on(self, members: set[str]) -> None:
        merging = self.samples.merging
        least = max(self.samples.least, merging.least)
        if len(members) < least:
            why = f" (merging={merging.rule!r} needs {least})" if least == merging.least > 1 else ""
            left_out = f". {listed(self.left_out, '; ', most=3)}" if self.left_out else ""
            raise DataError(
                f"expected at least {least} holders of auxiliary samples to answer{why}; "
                f"{len(members)} did{left_out}"
            )
        before, self._members = self._members, members
        if before is not None and before != members:
            raise HolderLostError

    def _checked(self, name: str, answer: Answer | FlainError | None, question: Question) -> Answer:
        """Return the answer, or raise what is wrong with it."""
        if isinstance(answer, FlainError):
            raise answer
        if not isinstance(answer, Answer):
            raise DataError("no answer came")
        layer = question.state.layer
        check_answer(
            answer,
            question,
            layer=self._trained[layer] if layer else None,
            probes=self.samples.probes,
            classify=self.samples.facts.classify,
        )
        self._check_by_record(name, answer, question)
        return answer

    def _check_by_record(self, name: str, answer: Answer, question: Question) -> None:
        """Raise :class:`DataError` if an answer does not go with what the holder said before."""
        if answer.statistics is not None:
            self._values_of[name] = answer.statistics.count
        for scored in answer.scored:
            count = self._samples_of.setdefault(name, scored.clean.count)
            if scored.clean.count != count:
                raise DataError(f"it had {count} samples before, and {scored.clean.count} now")
            values = self._values_of.get(name, count)
            if values % count:
                raise DataError(f"it has {count} samples, and statistics of {values} values")
        if question.of_trained:
            self._trained_scores[name, question.task] = answer.scored[0]
            if answer.reading is not None and name not in self._readings:
                check_reading(answer.reading, answer.scored[0])
                self._readings[name] = answer.reading
        trained = self._trained_scores.get((name, question.task))
        if trained is not None:
            for scored in answer.scored:
                check_against_trained(scored, trained)

    def _trained_tallies(self, names: Iterable[str], task: Task) -> list[Tally] | None:
        """Return what the trained model scores with each holder; None if one never said so."""
        tallies: list[Tally] = []
        other: Task = "in full" if task == "candidates" else "candidates"
        for name in names:
            said = self._trained_scores
            scored = said.get((name, task)) or said.get((name, other))
            if scored is None:
                return None
            tallies.append(scored.clean)
        return tallies

    def _leave(self, name: str, error: FlainError) -> None:
        if not self.samples.may_leave:
            raise DataError(f"{name}, which holds auxiliary samples, failed: {error}") from error
        told = f"{name}, which holds auxiliary samples, is left out from now on: {error}"
        self.left_out.append(told)
        warnings.warn(told, FlainWarning, stacklevel=levels_to_caller())
