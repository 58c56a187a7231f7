"""Layer by layer: cut, measure, search, write back, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count

import numpy as np

from .errors import ModelError
from .examiner import Candidates, Examiner, HolderLostError, Study
from .flipping import match_norm
from .flipping_order import FlippingOrder
from .network import Layer, Network
from .outcome import LayerOutcome, Method, Step, StopReason
from .progress import OnProgress, Progress
from .schedule import Schedule
from .score import Scored
from .search import Found, search
from .selection import Pair
from .settings import Settings

__all__ = ["Course", "Purified", "purify_layers"]

_LEAST_WINDOW = 2e-5
_WINDOW_PER_ERROR = 4.0


@dataclass(frozen=True, eq=False)
class Course:
    """What every layer of a purification goes through.

    Attributes:
        examiner: Examines candidates.
        settings: How the search decides.
        on_progress: Called after each step.
        seed: Chooses the neurons that the proof of a cut changes.
    """

    examiner: Examiner
    settings: Settings
    on_progress: OnProgress
    seed: int

    def crossed(self, before: Scored, now: Scored) -> bool:
        """Whether the tolerance is crossed."""
        lost = before.clean.total - now.clean.total
        return self.settings.lost_too_much(lost, now.clean.count)

    def listener(self, layer: str, events: int) -> Callable[[Step], None]:
        """A function that reports the steps of a layer's search, one after the other."""
        done = count(1)
        return lambda step: self.on_progress(Progress(layer, step, next(done), events))


@dataclass(frozen=True, eq=False)
class Purified:
    """A network with some layers purified.

    Attributes:
        network: The copy.
        outcomes: What was done to each layer.
        before: What the model scored before any layer was purified.
        after: What the copy scores, run in full.
    """

    network: Network
    outcomes: tuple[LayerOutcome, ...]
    before: Scored
    after: Scored


@dataclass(frozen=True, eq=False)
class _Way:
    method: Method
    why: str
    candidates: AbstractContextManager[Candidates]


def purify_layers(network: Network, pairs: Sequence[Pair], course: Course) -> Purified:
    """Purify layers in order, each on the result of the one before, within one tolerance.

    Args:
        network: The trained model.
        pairs: The layers with their initial weights; training has changed at least one of them.
        course: What each layer goes through.

    Raises:
        ModelError: The model scores differently each time it is run.
    """
    try:
        return _purify_layers(network, pairs, course)
    except HolderLostError:
        # This ends, as every try counts with fewer holders.
        return purify_layers(network, pairs, course)


def _purify_layers(network: Network, pairs: Sequence[Pair], course: Course) -> Purified:
    steps: list[Purified] = []
    outcomes: list[LayerOutcome] = []
    for pair in pairs:
        before = steps[0].before if steps else None
        if not pair.trained:
            outcomes.append(_passed_by(pair.layer, "no update"))
        elif before and course.crossed(before, steps[-1].after):
            outcomes.append(_passed_by(pair.layer, "nothing within tolerance"))
        else:
            steps.append(_purify_layer(network, pair, course, before))
            outcomes.extend(steps[-1].outcomes)
            network = steps[-1].network
    return Purified(network, tuple(outcomes), steps[0].before, steps[-1].after)


def _purify_layer(network: Network, pair: Pair, course: Course, before: Scored | None) -> Purified:
    """Search one layer and write the chosen weight back, verified on the whole network.

    ``before`` is what losses are counted from; None for what the network scores now.
    """
    started = time.perf_counter()
    settings, layer = course.settings, pair.layer
    study = course.examiner.study(network, layer.name)
    activation = getattr(study.statistics, settings.statistic)
    schedule = Schedule.of(activation, settings.thresholds)
    flipping = FlippingOrder(network, layer, pair.initial, settings.factor, schedule.order)
    for way in _ways(study, flipping, course):
        report = course.listener(layer.name, len(schedule))
        with way.candidates as candidates:
            baseline = before or candidates.advance([0])[0]
            found = search(schedule, candidates, settings, baseline.clean, report)
        purified = flipping.candidate(found.neurons_flipped)
        after = candidates.confirm(purified, found.neurons_flipped)
        if _confirms(found, course, baseline, after):
            break
    else:
        raise ModelError(
            "the model scores differently each time it is run on the same samples, so no decision "
            "can be trusted; make it deterministic in evaluation mode"
        )
    if settings.match_norm and found.step:
        weight = match_norm(flipping.weight(found.neurons_flipped), layer.weight)
        purified = network.replace({layer.name: weight})
        after = course.examiner.of(purified)
    outcome = LayerOutcome(
        name=layer.name,
        threshold=found.step.threshold if found.step else None,
        flipped=schedule.flipped(found.neurons_flipped),
        stop_reason=found.reason,
        steps=found.steps,
        activation=activation,
        grouped=schedule.grouped,
        method=way.method,
        why_method=way.why,
        seconds=time.perf_counter() - started,
    )
    return Purified(purified, (outcome,), baseline, after)


def _passed_by(layer: Layer, reason: StopReason) -> LayerOutcome:
    """The outcome of a layer that is left as it is without a search."""
    return LayerOutcome(
        name=layer.name,
        threshold=None,
        flipped=np.zeros(layer.neurons, dtype=bool),
        stop_reason=reason,
        steps=(),
        activation=np.zeros(0),
        grouped=1,
        method="none",
        why_method="the layer was passed by",
        seconds=0.0,
    )


def _ways(study: Study, flipping: FlippingOrder, course: Course) -> Iterator[_Way]:
    """The fast way if it is proved right; otherwise, or if it is not confirmed, the slow one."""
    proof = study.prove(flipping, seed=course.seed)
    why = proof.why
    if proof.faithful:
        window = max(_LEAST_WINDOW, _WINDOW_PER_ERROR * proof.error)
        yield _Way("incremental", why, study.incremental(flipping, window=window))
        why = "the purified model did not score what the cut had promised"
    yield _Way("whole network", why, nullcontext(study.in_full(flipping)))


def _confirms(found: Found, course: Course, before: Scored, after: Scored) -> bool:
    """Whether the purified model, run in full, scores what the search said it would."""
    if found.step is None:
        return True
    beyond = found.reason == "tolerance" and course.settings.crossing == "keep"
    difference = abs(found.step.clean - after.clean.mean)
    return course.crossed(before, after) == beyond and difference <= found.step.rounding + 1e-9
