"""Purifies layer by layer: cut, measure, search, write back, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from typing import TypeAlias

import numpy as np

from .blocks import handed_over
from .errors import LayerError, ModelError
from .flipping import match_norm
from .flipping_order import FlippingOrder
from .in_directions.directions import Directions, Flipping
from .in_directions.input_space import InputSpace
from .network import SINGLE_PRECISION, Array, Layer, Network
from .outcome.layer import LayerOutcome, Step, StopReason
from .outcome.verdict import matters_little
from .progress import OnProgress, Progress
from .proof import NOT_AS_PROMISED, Proof
from .sample_source import HolderLostError, SampleFacts, Scorer
from .schedule import AllNegativeError, Schedule
from .score_checks import check_label
from .search import Found, bracket, search
from .settings import Settings
from .stop import crossed
from .tallies import Scored, Tally
from .updates import greatest_by_output, shares_flipped

Further: TypeAlias = Callable[[], Mapping[str, Array]]
"""Gives the initial weights of layers by name, if they are needed."""

_LEAST_WINDOW = 2e-5
_WINDOW_PER_ERROR = 4.0
_MOST_TESTED = 32
_LEAST_FOR_DIRECTIONS = 10
_MOST_OUTPUTS = 1024  # finding out how they move the scores takes pushes for each of them


@dataclass(frozen=True, eq=False)
class SearchContext:
    """Shared by the searches of all layers.

    Attributes:
        scorer: Scores models and candidates.
        settings: How the search decides, with every choice made.
        facts: What is known of the samples.
        on_progress: Called after each step.
        seed: Seed for choosing the neurons in the proof of a cut.
    """

    scorer: Scorer
    settings: Settings
    facts: SampleFacts
    on_progress: OnProgress
    seed: int

    def misfit(self, before: Tally) -> StopReason | None:
        """Return why the samples cannot steer the search of a model; None where they can.

        Raises:
            DataError: A label is none of the classes that the model scores.
        """
        reading = self.scorer.reading
        classes = reading.classes if reading else None
        if classes and self.facts.greatest_label is not None:
            check_label(self.facts.greatest_label, classes)
        if self.facts.no_better_than_chance(before, classes):
            return "no better than chance"
        # A loss of accuracy is a loss, whatever else the model gets wrong.
        if reading and self.settings.measure != "score":
            if self.facts.classes == 1 and classes != 1:
                return "samples of one class"
            favoured = reading.favoured(before.mean, before.count)
            return None if favoured is None else "too many of one class"
        return None

    def bears_out_a_promise(self, before: Tally) -> bool:
        """Return whether the samples can say anything of new ones.

        What was never right cannot become newly wrong, and samples of one class say nothing of
        others.
        """
        return self.facts.classes != 1 and self.misfit(before) is None

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
    network: Network, initial: Mapping[str, Array], context: SearchContext, further: Further = dict
) -> Purified:
    """Purify layers in order, each on the result of the one before, within one tolerance.

    Args:
        network: The trained model.
        initial: The initial weights by name of layer; training has changed at least one of them.
        context: What the searches share.
        further: Gives those of layers that follow for as long as the last one matters little.

    Raises:
        ModelError: The model scores differently each time it is run.
    """
    try:
        return _purify_layers(network, initial, context, further)
    except HolderLostError:
        # Each try has fewer holders, so this ends.
        return purify_layers(network, initial, context, further)


def _purify_layers(
    network: Network, initial: Mapping[str, Array], context: SearchContext, further: Further
) -> Purified:
    settings = context.settings
    done: list[Purified] = []
    outcomes: list[LayerOutcome] = []
    unmeasured: AllNegativeError | None = None
    for name, weight in chain(initial.items(), _while_they_matter_little(outcomes, further)):
        layer = network.layers()[name]
        before = done[0].before if done else None
        if np.array_equal(layer.weight, weight):
            outcomes.append(_passed_by(layer, "no update"))
        elif outcomes and outcomes[-1].stop_reason == "promise":
            outcomes.append(_passed_by(layer, "promise"))
        elif before and crossed(context.settings, before, done[-1].after):
            outcomes.append(_passed_by(layer, "nothing within tolerance"))
        else:
            try:
                done.append(_purify_layer(network, layer, weight, context, before))
            except AllNegativeError as error:
                unmeasured = error
                outcomes.append(_passed_by(layer, "all negative"))
            except LayerError:
                if name in initial:
                    raise
                break
            else:
                outcomes.extend(done[-1].outcomes)
                network = done[-1].network
                context = replace(context, settings=_for_later_layers(settings, done[0]))
    if not done and unmeasured:
        raise unmeasured
    return Purified(network, tuple(outcomes), done[0].before, done[-1].after)


def _while_they_matter_little(
    outcomes: Sequence[LayerOutcome], further: Further
) -> Iterator[tuple[str, Array]]:
    if outcomes and matters_little(outcomes[-1]):
        for each in further().items():
            yield each
            if not matters_little(outcomes[-1]):
                return


def _for_later_layers(settings: Settings, first: Purified) -> Settings:
    """Return settings that allow as much as the first layer's candidate was allowed."""
    (outcome,), loss = first.outcomes, first.before.loss
    if loss is None:
        return settings
    return replace(settings, tolerance=settings.allowed(loss.missing, outcome.limiting_share))


def _purify_layer(
    network: Network, layer: Layer, initial: Array, context: SearchContext, before: Scored | None
) -> Purified:
    """Search one layer and write the chosen weight back, verified on the whole network.

    Losses are counted from ``before``; None stands for what the network scores now.
    """
    started = time.perf_counter()
    settings, scorer = context.settings, context.scorer
    for flipping, schedule, proof in _ways(network, layer, initial, context):
        found, baseline, written = _searched(flipping, schedule, proof, context, before)
        purified = flipping.candidate(found.number)
        after = scorer.score_of(purified, candidate=found.number)
        if not _confirms(found, written, settings, baseline, after):
            continue
        found = _promised(found, flipping, context)
        if found.reason == "promise":
            purified = flipping.candidate(found.number)
            after = scorer.score_of(purified)
        if settings.match_norm and found.step and isinstance(flipping, FlippingOrder):
            del purified  # its weight makes room for the one that is rescaled
            weight = match_norm(flipping.weight(found.number), layer.weight)
            purified = network.replace({layer.name: handed_over(weight)})
            after = scorer.score_of(purified)
        first, first_class = None, None
        if isinstance(flipping, Directions):
            first, first_class = flipping.first, flipping.first_class
        after_weight = purified.layers()[layer.name].weight
        share, class_share = shares_flipped(
            initial, layer.weight, after_weight, flipping.factor, first
        )
        outcome = LayerOutcome(
            name=layer.name,
            flip="directions" if schedule.by_strength else "neurons",
            threshold=found.step.threshold if found.step else None,
            flipped=schedule.flipped(found.number),
            share=share,
            stop_reason=found.reason,
            steps=found.steps,
            activation=schedule.activation,
            grouped=schedule.grouped,
            method="incremental" if proof.faithful else "whole network",
            why_method=proof.why,
            seconds=time.perf_counter() - started,
            class_share=class_share,
            most_flipped_class=first_class,
        )
        return Purified(purified, (outcome,), baseline, after)
    raise ModelError(
        "the model scores differently each time it is run on the same samples, so no decision can "
        "be trusted; make it deterministic in evaluation mode"
    )


def _searched(
    flipping: Flipping,
    schedule: Schedule,
    proof: Proof,
    context: SearchContext,
    before: Scored | None,
) -> tuple[Found, Scored, Scored | None]:
    """Return the end of a search, what losses count from, and what the written candidate scores.

    The last is None where that is what the search said.
    """
    report = context.listener(flipping.layer.name, schedule.most_tried)
    window = max(_LEAST_WINDOW, _WINDOW_PER_ERROR * proof.error) if proof.faithful else None
    with context.scorer.candidates(flipping, window=window) as candidates:
        (now,) = candidates.advance([0])
        baseline = before or now
        misfit = context.misfit(baseline.clean)
        if misfit:
            return Found((), (), (), misfit), baseline, now
        walk = bracket if schedule.by_strength else search
        found = walk(schedule, candidates, context.settings, baseline, report)
        written = candidates.as_written(found.number) if candidates.as_written else None
        return found, baseline, written


def _ways(
    network: Network, layer: Layer, initial: Array, context: SearchContext
) -> Iterator[tuple[Flipping, Schedule, Proof]]:
    """Yield ways to search a layer: what is flipped, in which steps, and whether at a proved cut.

    The fast ways come first if the cut is proved right; else, or if unconfirmed, the slow one.
    """
    settings, scorer = context.settings, context.scorer
    statistics, inputs = scorer.study(network, layer.name)
    unflipped = FlippingOrder(network, layer, initial, settings.factor_of("neurons"), np.arange(0))
    proof = scorer.prove(unflipped, seed=context.seed)
    space = _space(layer, inputs, settings) if proof.faithful else None
    if space is not None:
        few = len(layer.weight) <= _MOST_OUTPUTS
        classes = scorer.toward_classes(greatest_by_output(initial, layer.weight)) if few else None
        factor = settings.factor_of("directions")
        directions = Directions(network, layer, initial, factor, space, classes)
        yield directions, Schedule.of_strengths(space.variance, directions.strengths), proof
        proof = NOT_AS_PROMISED
    if settings.flip == "directions":
        reason = "its inputs were not kept" if proof.faithful else proof.why
        raise LayerError(
            f"{layer.name!r} cannot be flipped in directions ({reason}); that needs a dense layer "
            "of float32 weights that runs once in a pass, at least 10 samples in memory, and "
            'a memory_limit that holds what enters the layer. Say flip="auto" or flip="neurons"'
        )
    activation = getattr(statistics, settings.statistic)
    schedule = Schedule.of(activation, settings.thresholds)
    flipping = replace(unflipped, order=schedule.order)
    if proof.faithful:
        yield flipping, schedule, proof
        proof = NOT_AS_PROMISED
    yield flipping, schedule, proof


def _space(layer: Layer, inputs: Array | None, settings: Settings) -> InputSpace | None:
    """Return how clean samples use the inputs of a layer, if it can be flipped in directions."""
    dense = layer.kind == "dense" and layer.epsilon <= SINGLE_PRECISION
    if not dense or settings.flip == "neurons":
        return None
    if inputs is None or len(inputs) < _LEAST_FOR_DIRECTIONS:
        return None
    try:
        return InputSpace.of(inputs, bias=layer.bias is not None)
    except LayerError:
        if settings.flip == "directions":
            raise
        return None


def _promised(found: Found, flipping: Flipping, context: SearchContext) -> Found:
    """Go back to the last candidate that keeps the promise that was asked for."""
    held_back = context.scorer.held_back
    if held_back is None or context.settings.promise is None or found.step is None:
        return found
    permitted = found.permitted
    every = -(-len(permitted) // _MOST_TESTED)
    tested = permitted[::-every][::-1]
    kept = held_back.furthest([partial(flipping.candidate, found.numbers[i]) for i in tested])
    if kept == len(tested):
        return found
    return replace(found, permitted=tested[:kept], reason="promise")


def _passed_by(layer: Layer, reason: StopReason) -> LayerOutcome:
    """Return the outcome of a layer that is left as it is without a search."""
    return LayerOutcome(
        name=layer.name,
        flip="none",
        threshold=None,
        flipped=np.zeros(layer.neurons, dtype=bool),
        share=0.0,
        stop_reason=reason,
        steps=(),
        activation=np.zeros(0),
        grouped=1,
        method="none",
        why_method="the layer was passed by",
        seconds=0.0,
    )


def _confirms(
    found: Found, written: Scored | None, settings: Settings, before: Scored, after: Scored
) -> bool:
    """Return whether the purified model, run in full, scores what the search said it would."""
    if written is not None:
        difference = abs(written.clean.total - after.clean.total)
        after = replace(after, class_share=written.class_share)
        # What crosses the tolerance is kept on purpose then.
        held = settings.crossing == "keep" or not crossed(settings, before, after)
        return difference <= written.clean.uncertain and held
    if found.step is None:
        return True
    beyond = found.reason == "tolerance" and settings.crossing == "keep"
    difference = abs(found.step.clean - after.clean.mean)
    return crossed(settings, before, after) == beyond and difference <= found.step.rounding + 1e-9
