"""Purifies layer by layer: cut, measure, search, write back, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np

from .errors import ModelError
from .flipping import FlippingOrder, match_norm
from .network import Array, Layer, Network
from .outcome import LayerOutcome, Method, Step, StopReason
from .progress import OnProgress, Progress
from .sample_source import HolderLostError, LayerScorer, Scorer
from .schedule import Schedule
from .score import Scored
from .search import Found, search
from .settings import Settings

_LEAST_WINDOW = 2e-5
_WINDOW_PER_ERROR = 4.0


@dataclass(frozen=True, eq=False)
class SearchContext:
    """Shared by the searches of all layers.

    Attributes:
        scorer: Scores models and candidates.
        settings: How the search decides.
        on_progress: Called after each step.
        seed: Seed for choosing the neurons in the proof of a cut.
    """

    scorer: Scorer
    settings: Settings
    on_progress: OnProgress
    seed: int

    def crossed(self, before: Scored, now: Scored) -> bool:
        """Return whether the tolerance is crossed."""
        lost = before.clean.total - now.clean.total
        return self.settings.lost_too_much(lost, now.clean.count)

    def listener(self, layer: str, events: int) -> Callable[[Step], None]:
        """Return a function that reports the steps of a layer's search, one after the other."""
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


def purify_layers(
    network: Network, initial: Mapping[str, Array], context: SearchContext
) -> Purified:
    """Purify layers in order, each on the result of the one before, within one tolerance.

    Args:
        network: The trained model.
        initial: The initial weights by name of layer; training has changed at least one of them.
        context: What the searches share.

    Raises:
        ModelError: The model scores differently each time it is run.
    """
    try:
        return _purify_layers(network, initial, context)
    except HolderLostError:
        # This ends, as every try counts with fewer holders.
        return purify_layers(network, initial, context)


def _purify_layers(
    network: Network, initial: Mapping[str, Array], context: SearchContext
) -> Purified:
    done: list[Purified] = []
    outcomes: list[LayerOutcome] = []
    for name, weight in initial.items():
        layer = network.layers()[name]
        before = done[0].before if done else None
        if np.array_equal(layer.weight, weight):
            outcomes.append(_passed_by(layer, "no update"))
        elif before and context.crossed(before, done[-1].after):
            outcomes.append(_passed_by(layer, "nothing within tolerance"))
        else:
            done.append(_purify_layer(network, layer, weight, context, before))
            outcomes.extend(done[-1].outcomes)
            network = done[-1].network
    return Purified(network, tuple(outcomes), done[0].before, done[-1].after)


def _purify_layer(
    network: Network, layer: Layer, initial: Array, context: SearchContext, before: Scored | None
) -> Purified:
    """Search one layer and write the chosen weight back, verified on the whole network.

    Losses are counted from ``before``; None stands for what the network scores now.
    """
    started = time.perf_counter()
    settings = context.settings
    layer_scorer = context.scorer.study(network, layer.name)
    activation = getattr(layer_scorer.statistics, settings.statistic)
    schedule = Schedule.of(activation, settings.thresholds)
    flipping = FlippingOrder(network, layer, initial, settings.factor, schedule.order)
    for method, why, window in _methods(layer_scorer, flipping, context):
        report = context.listener(layer.name, len(schedule))
        with layer_scorer.candidates(flipping, window=window) as candidates:
            baseline = before or candidates.advance([0])[0]
            found = search(schedule, candidates, settings, baseline.clean, report)
        purified = flipping.candidate(found.neurons_flipped)
        after = candidates.confirm(purified, found.neurons_flipped)
        if not _confirms(found, context, baseline, after):
            continue
        if settings.match_norm and found.step:
            weight = match_norm(flipping.weight(found.neurons_flipped), layer.weight)
            purified = network.replace({layer.name: weight})
            after = context.scorer.score_of(purified)
        outcome = LayerOutcome(
            name=layer.name,
            threshold=found.step.threshold if found.step else None,
            flipped=schedule.flipped(found.neurons_flipped),
            stop_reason=found.reason,
            steps=found.steps,
            activation=activation,
            grouped=schedule.grouped,
            method=method,
            why_method=why,
            seconds=time.perf_counter() - started,
        )
        return Purified(purified, (outcome,), baseline, after)
    raise ModelError(
        "the model scores differently each time it is run on the same samples, so no decision can "
        "be trusted; make it deterministic in evaluation mode"
    )


def _passed_by(layer: Layer, reason: StopReason) -> LayerOutcome:
    """Return the outcome of a layer that is left as it is without a search."""
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


def _methods(
    layer_scorer: LayerScorer, flipping: FlippingOrder, context: SearchContext
) -> Iterator[tuple[Method, str, float | None]]:
    """Yield the fast method if it is proved right; otherwise, or if unconfirmed, the slow one."""
    proof = layer_scorer.prove(flipping, seed=context.seed)
    why = proof.why
    if proof.faithful:
        yield "incremental", why, max(_LEAST_WINDOW, _WINDOW_PER_ERROR * proof.error)
        why = "the purified model did not score what the cut had promised"
    yield "whole network", why, None


def _confirms(found: Found, context: SearchContext, before: Scored, after: Scored) -> bool:
    """Return whether the purified model, run in full, scores what the search said it would."""
    if found.step is None:
        return True
    beyond = found.reason == "tolerance" and context.settings.crossing == "keep"
    difference = abs(found.step.clean - after.clean.mean)
    return context.crossed(before, after) == beyond and difference <= found.step.rounding + 1e-9
