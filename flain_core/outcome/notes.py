"""Notes for the reader of an outcome, in words; the serious ones are warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flain_core.binomial import binomial_tail
from flain_core.errors import FlainWarning, Note, listed
from flain_core.network import Network
from flain_core.per_layer import Purified, SearchContext
from flain_core.promise import Promise, samples_needed
from flain_core.proof import NOT_AS_PROMISED
from flain_core.sample_source import SampleFacts
from flain_core.settings import Settings

from .layer import LayerOutcome
from .measurement import ClassOutcome
from .notes_on_samples import notes_on_samples
from .verdict import matters_little, reason_for, verdict_on

_MANY_COPIES = 0.5
_NOTABLE_LOSS = 0.01
_LOST_BY_A_CLASS, _BY_CHANCE = 0.1, 0.01
_FEW_OF_A_CLASS = 10
_CLASSES_TO_COMPARE = 2
_TOOK = 0.5  # a backdoor with a smaller attack success rate hardly took
_BROUGHT_ABOUT = 0.1


def notes_on(
    purified: Purified,
    context: SearchContext,
    choice: Iterable[Note],
    promise: Promise | None,
    by_class: Sequence[ClassOutcome],
) -> Iterator[Note]:
    """Yield everything there is to say.

    Args:
        purified: What was done.
        context: What the searches shared.
        choice: What is to be said of the choice of layers.
        promise: What can be promised of new samples.
        by_class: How many samples of each class were right, and are.
    """
    before, settings, facts = purified.before.clean, context.settings, context.facts
    held_back = len(context.scorer.held_back or ())
    reading = context.scorer.reading
    yield from notes_on_samples(facts, settings, before, held_back, reading)
    yield from choice
    for outcome in purified.outcomes:
        yield from _on_layer(outcome)
        yield from _on_neurons(outcome, purified.network, facts, settings)
    in_directions = any(outcome.flip == "directions" for outcome in purified.outcomes)
    if facts.copies > _MANY_COPIES and in_directions:
        yield (
            f"{facts.copies:.0%} of the clean samples are copies of others, and a sample is judged "
            "while its copies have a part in the fit: the model may lose more on new samples that "
            "are no copies"
        )
    yield from _on_result(purified, settings)
    yield from _on_what_classes_lost(by_class)
    yield from _on_few_of_a_class(purified.outcomes, by_class)
    yield from _on_promise(promise, context)
    yield from _on_probes(purified, facts)
    if reading and reading.note:
        yield reading.note
    if reading and reading.decided and settings.measure != "score":
        yield FlainWarning(
            "the model's scores are so far apart that nearly every probability is 0 or 1, so the "
            "search sees no loss before a sample is classified otherwise. Give the samples scaled "
            "as in training: pixels to 255 in place of 1 do this, and the model may then be "
            "damaged without a sign of it here"
        )
    yield from map(FlainWarning, context.scorer.left_out)
    if context.scorer.asked:
        yield str(context.scorer.asked)


def _on_probes(purified: Purified, facts: SampleFacts) -> Iterator[Note]:
    for name, classes in facts.probe_classes.items():
        before, after = (each.probes[name].mean for each in (purified.before, purified.after))
        told = f"the probe {name!r} scores {before:.1%} before and {after:.1%} after"
        named_attack = any(word in name.lower() for word in ("asr", "attack"))
        if classes > 1 and named_attack:
            yield FlainWarning(
                f"{told}, with labels of {classes} classes: with the true classes as labels that "
                "is the accuracy on those samples, and the more the better. For the attack success "
                "rate give the attacker's target as the label of each"
            )
        elif classes == 1 and before >= _TOOK and after > before / 2:
            yield FlainWarning(
                f"{told}: the backdoor is still there. The auxiliary samples must not carry the "
                "trigger (none from what clients trained on); else try other layers"
            )
        elif classes == 1 and before < _TOOK and after - before >= _BROUGHT_ABOUT:
            yield FlainWarning(
                f"{told}: if its labels are an attacker's target, a backdoor was brought back. Was "
                "the model purified before, or are the initial and the final model swapped?"
            )
        elif classes == 1 and before >= _TOOK and after >= _NOTABLE_LOSS:
            yield (
                f"{told}; samples whose own class is the target are given it rightly, so leave "
                "them out to see the attack success rate alone"
            )


def _on_result(purified: Purified, settings: Settings) -> Iterator[Note]:
    reason = reason_for(purified.outcomes)
    yield reason if verdict_on(purified.outcomes) == "flipped" else FlainWarning(reason)
    lost, loss = purified.before.clean.mean - purified.after.clean.mean, purified.after.loss
    first = next((outcome for outcome in purified.outcomes if outcome.steps), None)
    share = first.limiting_share if first else None
    of_score = settings.allowed_of_score(purified.before.clean.count)
    tolerance = float(of_score) if loss is None else settings.allowed(loss.missing, share)
    far_beyond = lost > tolerance + _NOTABLE_LOSS
    if far_beyond and loss is None:
        yield FlainWarning(
            f"the purified model lost {lost:.2%} of the clean score, far beyond the tolerance of "
            f"{tolerance:.2%}: crossing={settings.crossing!r} and "
            f"match_norm={settings.match_norm} are not held to it. Consider crossing='revert' and "
            "match_norm=False, or leave out the layer that lost it"
        )
    elif far_beyond:
        yield FlainWarning(
            f"the purified model lost {lost:.2%} of the accuracy, far beyond the tolerance of "
            f"{tolerance:.2%} of the probability: other samples gained some meanwhile, the model's "
            "probabilities differ too little between classes to steer the search, or "
            "crossing='keep' returned a candidate beyond the tolerance. Look at what each class "
            'lost, and give more samples of those that lost most, or use measure="score"'
        )
    if first and settings.crossing == "keep" and len(first.steps) == 1:
        yield FlainWarning(
            f"the search of {first.name!r} ended at its very first candidate, as crossing='keep' "
            "takes the first one that loses the tolerance or more; a backdoor may well "
            "be left"
        )


def _on_what_classes_lost(by_class: Sequence[ClassOutcome]) -> Iterator[Note]:
    """Warn of classes that lost at least a tenth, far more than chance explains beside the others.

    What is usual is estimated from the others by the rule of succession: as if two more of their
    samples had been seen, of which one was lost.
    """
    if len(by_class) < _CLASSES_TO_COMPARE:
        return
    lost = [each.right_before - each.right_after for each in by_class]
    samples, total = sum(each.samples for each in by_class), sum(lost)
    losing = []
    for each, its in zip(by_class, lost, strict=True):
        others = samples - each.samples
        usual = (max(total - its, 0) + 1) / (others + 2)
        chance = 1 - binomial_tail(its - 1, each.samples, usual) if its > 0 else 1.0
        if its >= _LOST_BY_A_CLASS * each.samples and chance * len(by_class) < _BY_CHANCE:
            losing.append(
                f"class {each.label} ({each.right_before} of {each.samples} right before, "
                f"{each.right_after} after)"
            )
    if losing:
        yield FlainWarning(
            f"some classes lost far more than the others: {listed(losing)}. Give more samples of "
            "them, or a smaller tolerance"
        )


def _on_few_of_a_class(
    outcomes: Sequence[LayerOutcome], by_class: Sequence[ClassOutcome]
) -> Iterator[Note]:
    """Tell of classes that may lose most and have hardly a sample that would show it."""
    samples = {each.label: each.samples for each in by_class}
    for outcome in outcomes:
        label = outcome.most_flipped_class
        # Of two classes what speaks for one speaks against the other.
        of_two = label is None and outcome.class_share is not None and len(samples) == 2
        if of_two:
            label = min(samples, key=lambda each: samples[each])
        if outcome.share and label in samples and samples[label] < _FEW_OF_A_CLASS:
            what = "tells two classes apart" if of_two else f"speaks for class {label}"
            told = (
                f"what {what} in {outcome.name!r} was flipped most strongly, and the search saw "
                f"only {samples[label]} of class {label}, so what that loses hardly shows; give "
                "more samples of it"
            )
            yield FlainWarning(told) if of_two else told


def _on_promise(promise: Promise | None, context: SearchContext) -> Iterator[Note]:
    settings = context.settings
    if settings.promise is not None:
        needed = samples_needed(settings.promise, settings.confidence)
        held_back = len(context.scorer.held_back or ())
        if held_back < needed:
            yield FlainWarning(
                f"{held_back} samples were held back, and a promise of {settings.promise:.2%} "
                f"needs at least {needed}, so nothing could be flipped; give more samples, a "
                "larger promise, or a larger held_back"
            )
    if promise is not None:
        yield f"promise: {promise}"
    elif settings.measure != "score" and not context.facts.local:
        yield "nothing is promised of new samples: all of those that lie elsewhere steer the search"
    elif settings.measure != "score" and context.scorer.held_back:
        yield (
            "nothing is promised of new samples: these are all of one class, or the model is wrong "
            "about too many of them, so they say nothing of others"
        )
    elif settings.measure != "score":
        why = (
            f"held_back={settings.held_back:g} holds none back"
            if settings.held_back is not None
            else "too few were given, too few that differ, or too few of all but one class, to "
            "hold some back"
        )
        yield f"nothing is promised of new samples: {why}"


def _on_neurons(
    outcome: LayerOutcome, network: Network, facts: SampleFacts, settings: Settings
) -> Iterator[Note]:
    dense = network.layers()[outcome.name].kind == "dense"
    whole = settings.flip == "auto" and outcome.flip == "neurons"
    given_up = not outcome.moves_scores or outcome.why_method == NOT_AS_PROMISED.why
    if facts.local and dense and whole and not given_up:
        yield (
            f"{outcome.name!r}: whole neurons were tried; directions need float32 weights, a "
            "layer that runs once in a pass, at least 10 samples whose inputs vary, and a "
            "memory_limit that holds what enters and leaves the layer"
        )


def _on_layer(outcome: LayerOutcome) -> Iterator[Note]:
    name, width = outcome.name, outcome.flipped.size
    negative = int((outcome.activation < 0).sum())
    if negative:
        yield FlainWarning(
            f"{negative} of the {width} input neurons of {name!r} have a negative mean activation "
            "and were no candidates, as in the published code; the layer does not follow a ReLU: "
            'consider Settings(statistic="mean_abs")'
        )
    if outcome.stop_reason == "exhausted" and not matters_little(outcome):
        yield FlainWarning(
            f"no candidate of {name!r} crossed the tolerance, so the last one was taken, with "
            f"{int(outcome.flipped.sum())} of {width} neurons flipped; the samples may be too few "
            "or too easy to steer the search, or the thresholds may end too early"
        )
    if outcome.method == "whole network":
        yield f"{name!r}: every candidate was run in full, as {outcome.why_method}"
    if outcome.grouped > 1:
        yield f"{name!r}: a candidate stands for up to {outcome.grouped} distinct activations"
    if outcome.stop_reason == "all negative":
        yield (
            f"{name!r} was left out: every input neuron has a negative mean activation, so none "
            'counts as low; use Settings(statistic="mean_abs") for layers that do not follow a ReLU'
        )
    elif outcome.stop_reason == "nothing within tolerance" and not outcome.steps:
        yield (
            f"{name!r} was not searched, as the layers before it used up the tolerance; purify it "
            "in a call of its own, with again=True, or allow a larger loss"
        )
    elif not outcome.share:
        yield f"{name!r}: nothing was flipped; the layer is as it was"
