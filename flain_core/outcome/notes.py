"""Notes for the reader of an outcome, in words; the serious ones are warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from flain_core.binomial import binomial_tail
from flain_core.errors import FlainWarning, listed
from flain_core.network import Network
from flain_core.outputs import Reading
from flain_core.per_layer import Purified, SearchContext
from flain_core.promise import Promise, samples_needed
from flain_core.proof import NOT_AS_PROMISED
from flain_core.sample_source import SampleFacts
from flain_core.settings import Settings, as_fraction
from flain_core.tallies import Tally

from .layer import LayerOutcome
from .measurement import ClassOutcome
from .verdict import flipped_for_a_class, verdict_on

_TOO_FEW_SAMPLES = 75
_MANY_COPIES = 0.5
_NOTABLE_LOSS = 0.01
_GREAT_TOLERANCE = 0.05
_LOST_BY_A_CLASS, _BY_CHANCE = 0.1, 0.01
_FEW_OF_A_CLASS = 10
_CLASSES_TO_COMPARE = 2
_OVERSURE = 1.5  # beside how often a model is right
_TOOK = 0.5  # a backdoor with a smaller attack success rate hardly took
_BROUGHT_ABOUT = 0.1

_NOT_FLIPPED = {
    "promise": (
        "not even the weakest candidate kept the promise. Ask for a larger one, or give more "
        "samples"
    ),
    "no better than chance": (
        "samples on which it is no better than chance cannot say when to stop"
    ),
    "too many of one class": (
        "samples of which it takes far too many for one class cannot say when to stop"
    ),
}
_TRY_ELSE = "try another layer, more samples, or a larger tolerance"
_TRY_NEXT = (
    "Give more samples, or name another layer, or allow a larger loss, such as tolerance=0.02 in "
    "the settings; or use another defence beside this one"
)

Note: TypeAlias = "str | FlainWarning"
"""A sentence; a serious one is a warning."""


def notes_on(
    purified: Purified,
    context: SearchContext,
    left_out: Mapping[str, str],
    passed_by: Note | None,
    promise: Promise | None,
    by_class: Sequence[ClassOutcome],
) -> Iterator[Note]:
    """Yield everything there is to say.

    Args:
        purified: What was done.
        context: What the searches shared.
        left_out: Layers that were asked for as a group and cannot be purified, with the reasons.
        passed_by: What ``"auto"`` passed by.
        promise: What can be promised of new samples.
        by_class: How many samples of each class were right, and are.
    """
    before, settings, facts = purified.before.clean, context.settings, context.facts
    held_back = len(context.scorer.held_back or ())
    reading = context.scorer.reading
    yield from _on_samples(facts, settings, before, held_back, reading)
    yield from _on_classes(facts, before.count + held_back, reading.classes if reading else 0)
    if passed_by:
        yield passed_by
    for name, reason in left_out.items():
        yield f"{name!r} was left out, as it cannot be purified: {reason}"
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


def _on_samples(
    facts: SampleFacts,
    settings: Settings,
    before: Tally,
    held_back: int,
    reading: Reading | None,
) -> Iterator[Note]:
    if facts.one_hot:
        yield "the labels were one-hot and were read as class indices"
    if facts.pixels:
        yield (
            "the samples hold whole numbers from 0 to 255, as pixels do before they are scaled; "
            "were those of training like that?"
        )
    if not facts.classify:
        return
    if settings.measure == "score":
        allowed = as_fraction(settings.allowed(None)) * before.count
        yield (
            f"one of the {before.count} clean samples is worth {1 / before.count:.4%} of accuracy; "
            f"the tolerance is worth {float(allowed):.3g} of them"
        )
    tolerance = settings.tolerance or 0.0
    if tolerance > _GREAT_TOLERANCE and settings.promise is None:
        lost = "accuracy" if settings.measure == "score" else "probability of the true class"
        yield FlainWarning(
            f"a tolerance of {tolerance:g} lets the purified model lose {tolerance:.0%} of the "
            f"{lost}, for good; it is a fraction, so 0.2 % is tolerance=0.002"
        )
    yield from _on_favoured(before, reading)
    if before.count < _TOO_FEW_SAMPLES:
        yield FlainWarning(
            f"{before.count} clean {'sample is' if before.count == 1 else 'samples are'} too few "
            "to steer the search"
            + (f", as {held_back} more are held back" if held_back else "")
            + ": the model may lose more than is seen here; take a few hundred"
        )
        return
    if facts.no_better_than_chance(before, reading.classes if reading else None):
        yield FlainWarning(
            f"the model classifies {before.total} of the {before.count} clean samples right, no "
            "better than chance; the labels probably do not match the model's classes (they are "
            "places in its scores, from 0), or the inputs are scaled or laid out otherwise than in "
            "training"
        )
    elif reading and reading.favoured(before.mean, before.count) is None:
        yield from _on_certainty(before, reading, settings)


def _on_favoured(before: Tally, reading: Reading | None) -> Iterator[Note]:
    favoured = reading.favoured(before.mean, before.count) if reading else None
    if favoured is None or reading is None:
        return
    yield FlainWarning(
        f"the model takes {reading.excess[favoured]:.0%} of the clean samples too many for class "
        f"{favoured}, and is right about {before.mean:.0%}: are they scaled and laid out as in "
        "training, labelled in the order of the model's classes, and without a trigger, whose "
        f"target class {favoured} would be? If so, the model itself favours that class: train it "
        'further, or say measure="score" to go by its accuracy'
    )


def _on_certainty(before: Tally, reading: Reading, settings: Settings) -> Iterator[Note]:
    """Warn of a model that is right much more or much less often than it is sure."""
    if reading.decided and settings.measure != "score":
        return
    if reading.is_unsure(before.mean):
        told = (
            f"the model is right about {before.mean:.0%} of the clean samples, but gives what it "
            f"says a probability of only {reading.confidence:.0%} on average"
        )
        if settings.measure == "auto":
            told += ", so its accuracy steered the search"
        if reading.doubtful:
            yield told
            return
        told += ": were they scaled as in training?"
        if settings.measure == "probability":
            told += " By the probability the search may cost much accuracy: leave measure out"
        yield told if settings.measure == "score" else FlainWarning(told)
    elif reading.confidence > _OVERSURE * before.mean:
        yield FlainWarning(
            f"the model gives what it says a probability of {reading.confidence:.0%} on average, "
            f"but is right about only {before.mean:.0%} of the clean samples: are they labelled "
            "rightly, and laid out like those of training? If not, the purified model may lose "
            "much on others without a sign of it here; if so, it knows those of training by heart"
        )


def _on_classes(facts: SampleFacts, samples: int, classes: int) -> Iterator[Note]:
    """Warn where more classes are missing than a random draw would leave out."""
    if not facts.classify or facts.classes is None or not classes:
        return
    if facts.classes == 1:
        yield FlainWarning(
            "all clean samples are of one class, so the search does not see what the other classes "
            "lose; take samples of every class"
        )
        return
    missing = classes - facts.classes
    by_chance = classes * (1 - 1 / classes) ** samples
    if missing > by_chance + 3 * by_chance**0.5 + 0.5:
        yield FlainWarning(
            f"the clean samples are of {facts.classes} of the model's {classes} classes, so the "
            f"search does not see what {'the other loses' if missing == 1 else 'the others lose'}, "
            "whatever is said here of accuracy and promise; take samples of every class"
        )


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
    tolerance = settings.allowed(None if loss is None else loss.missing)
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
            f"{tolerance:.2%} of the probability: the model's probabilities differ too little from "
            'class to class to steer the search, or it kept what crosses. Say measure="score"'
        )
    first = next((outcome for outcome in purified.outcomes if outcome.steps), None)
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
        if outcome.share and label in samples and samples[label] < _FEW_OF_A_CLASS:
            yield (
                f"what {outcome.name!r} says for class {label} was flipped most strongly, and the "
                f"search saw only {samples[label]} of that class, so what it loses hardly shows; "
                "give more samples of it"
            )


def reason_for(outcomes: Sequence[LayerOutcome]) -> str:
    """Return a sentence that explains the verdict."""
    verdict = verdict_on(outcomes)
    most = max(outcomes, key=lambda outcome: outcome.share)
    if verdict == "not flipped":
        if not any(outcome.moves_scores for outcome in outcomes):
            return (
                "not flipped: flipping the chosen layers does not move the scores, so nothing can "
                "be removed there; choose another layer, or a larger factor"
            )
        reasons = {outcome.stop_reason for outcome in outcomes}
        told = next((each for reason, each in _NOT_FLIPPED.items() if reason in reasons), _TRY_ELSE)
        return f"not flipped: the model is as it was, with a backdoor if it had one; {told}"
    if verdict == "partly flipped":
        most = flipped_for_a_class(outcomes)
    flipped = f"of {most.name!r}, {most.share_in_words()} was flipped"
    if not any(outcome.moves_scores for outcome in outcomes if outcome.share):
        return (
            f"{verdict}: {flipped}, which does not move the scores, so nothing was removed: the "
            "layer's update, or the factor, is too small to matter. A backdoor is probably still "
            "there, if there was one. Choose another layer"
        )
    if verdict == "partly flipped":
        return (
            f"partly flipped: {flipped}. Little of what it says for other classes was, as clean "
            "samples use that. If there was a backdoor, some of it may be left, and most of it if "
            f"it leads to another class: only a probe with its trigger shows that. {_TRY_NEXT}"
        )
    if verdict == "hardly flipped":
        return (
            f"hardly flipped: {flipped} before clean samples suffered. They use nearly all of the "
            "layer's inputs, as they do of small layers and behind batch normalisation, or they "
            f"are too few. A backdoor is probably still there, if there was one. {_TRY_NEXT}"
        )
    return (
        f"flipped: {flipped}, where clean samples hardly use it. A backdoor elsewhere stays; only "
        "a probe with its trigger shows whether one is gone"
    )


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
            else "too few were given, or too few that differ, to hold some back"
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
    if outcome.stop_reason == "exhausted":
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
    elif not outcome.share:
        yield f"{name!r}: nothing was flipped; the layer is as it was"
