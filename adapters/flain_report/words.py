"""Sentences of a report, for readers who have never heard of input neurons."""

from __future__ import annotations

import math
from collections.abc import Iterator

from flain_core.outcome.layer import LayerOutcome
from flain_core.outcome.outcome import Outcome
from flain_core.outcome.verdict import (
    counts,
    flipped_for_a_class,
    those_that_count,
    what_is_left,
)

from .facts import factor_of
from .score_charts import score
from .text import counted, number, percent


def headline(result: Outcome) -> str:
    """Return the verdict in one sentence."""
    counting = those_that_count(result.layers)
    most = max(counting, key=lambda layer: layer.share)
    if result.verdict == "not flipped":
        return "Nothing was changed: the model is as it was, with a backdoor if it had one."
    others = sum(1 for layer in result.layers if layer.share) - 1
    more = f", and less in {counted(others, 'further layer')}" if others else ""
    if not any(layer.moves_scores for layer in counting):
        return (
            f"What was changed, {percent(most.share)} of what training had added to the layer "
            f"“{most.name}”{more}, does not move the model's scores. A backdoor is probably still "
            "there, if there was one."
        )
    if not any(map(counts, counting)):
        return (
            f"What was changed, {percent(most.share)} of what training had added to the layer "
            f"“{most.name}”{more}, is not needed by clean samples or matters little: they lost "
            "next to nothing. A backdoor may well be elsewhere, if there was one."
        )
    if result.verdict == "hardly flipped":
        return (
            f"Hardly anything was changed: {percent(most.share)} of what training had added to the "
            f"layer “{most.name}”{more}. A backdoor is probably still there, if there was one."
        )
    how = "taken back" if factor_of(result, most) <= 1 else "turned round"
    if result.verdict == "partly flipped":
        most = flipped_for_a_class(counting)
        left = what_is_left(most)
        changed = (
            f"The purified model differs in part: {percent(most.share)} of what training had added "
            f"to the layer “{most.name}” was {how}, and {percent(most.class_share)} of what "
        )
        tells = " The probes below tell more." if result.before.probes else ""
        if most.most_flipped_class is None:
            return (
                f"{changed}tells the classes apart there. A backdoor in this layer {left}.{tells}"
            )
        return (
            f"{changed}speaks for class {most.most_flipped_class} there. A backdoor that leads to "
            f"that class {left}; one that leads to another is probably still there, if there was "
            f"one.{tells}"
        )
    return (
        f"In the purified model, {percent(most.share)} of what training had added to the layer "
        f"“{most.name}” was {how}{more}, where clean samples hardly use it."
    )


def what_it_means(result: Outcome) -> Iterator[str]:
    """Yield what follows from the scores, and what does not."""
    before, after = result.before, result.after
    if before.samples:
        lost = before.clean - after.clean
        went = f"went from {percent(before.clean)} to {percent(after.clean)} accuracy"
        kept = f"kept its accuracy of {percent(after.clean)}"
        yield f"On clean samples the model {kept if abs(lost) < 5e-4 else went}."
    for name, value in before.probes.items():
        end = score(result, after.probes[name])
        yield f"The probe “{name}” went from {score(result, value)} to {end}."
    if result.verdict == "not flipped":
        return
    if before.probes:
        yield (
            "If a probe holds samples with the attacker's trigger, labelled with the attacker's "
            "target, its score is the share of attacks that succeed."
        )
    else:
        yield (
            "Whether a backdoor is gone cannot be said: no probe with its trigger was given, and "
            "clean samples do not show one."
        )


def promise_words(result: Outcome) -> Iterator[str]:
    """Yield what is promised of new samples, and what that is worth."""
    promise = result.promise
    if promise is None:
        yield (
            "Nothing is promised of new samples, as none were held back from the search to bear a "
            "promise out. The notes say why."
        )
        return
    if promise.loss == 1:
        yield f"{str(promise)[:1].upper()}{str(promise)[1:]}."
        return
    most = math.ceil(round(1000 * promise.loss, 9))
    wrong = 100 * (1 - promise.confidence)
    yield (
        f"Of 1,000 new samples like the ones that were given, on average at most {most} that the "
        "model had classified right are now classified wrong."
    )
    became = f"at most {promise.allowed:,}" if promise.allowed else "none"
    yield (
        f"This was tested on {counted(promise.samples, 'sample')} that had no part in the search; "
        f"{became} of them became wrong. Such a promise is broken in at most {wrong:.3g} of 100 "
        "cases. It says nothing of samples of another kind, and nothing of backdoors."
    )


def layer_words(result: Outcome, outcome: LayerOutcome) -> Iterator[str]:
    """Yield what was done to a layer and why the search ended."""
    if not outcome.steps:
        yield {
            "no update": "Training had not changed this layer, so there was nothing to flip.",
            "promise": "The layer was left as it is: more would have broken the promise.",
            "no better than chance": "The layer was left as it is: the model is right about the "
            "samples no more often than by chance, so they cannot say when to stop.",
            "too many of one class": "The layer was left as it is: the model takes far too many "
            "samples for one class, so they cannot say when to stop.",
            "samples of one class": "The layer was left as it is: all samples are of one class, so "
            "they cannot say what the others lose.",
        }.get(outcome.stop_reason, "The layer was left as it is: nothing more may be lost.")
        return
    yield _what_was_flipped(outcome)
    yield _why_it_ended(result, outcome)
    if outcome.method == "incremental":
        yield "Candidates were scored from the layer on, which was proved right for this model."
    else:
        yield f"Every candidate was run in full: {outcome.why_method}."


def _what_was_flipped(outcome: LayerOutcome) -> str:
    candidates, width = counted(len(outcome.steps), "candidate"), outcome.flipped.size
    neurons = f"{int(outcome.flipped.sum()):,} of {counted(width, 'input neuron')}"
    if not outcome.share:
        return f"Nothing was flipped, of {candidates} tried."
    share, threshold = percent(outcome.share), number(outcome.threshold)
    if outcome.flip == "directions":
        return (
            f"{outcome.share_in_words(percent)} was flipped, most of it in the "
            f"directions that clean samples hardly use. The strength {threshold} was chosen, of "
            f"{candidates} tried; {neurons} vary no more than that on clean samples. The layer's "
            "bias, if it has one, was moved along, so that clean samples still find the same mean."
        )
    return (
        f"{share} of the update was flipped: that of {neurons}, those with an activation of at "
        f"most {threshold}. This threshold was chosen, of {candidates} tried."
    )


def _why_it_ended(result: Outcome, outcome: LayerOutcome) -> str:
    if outcome.stop_reason == "tolerance" and result.settings.crossing == "keep":
        return "This candidate was the first to lose what is allowed, and the settings keep it."
    return {
        "tolerance": "With the next candidate clean samples would have lost more than is allowed.",
        "promise": "The next candidate would have broken the promise.",
        "exhausted": "Every candidate stayed within what is allowed, so the last one was taken.",
        "all negative": "Every input is negative on average, so none of them is low.",
        "nothing within tolerance": "Even the weakest candidate lost more than is allowed.",
        "no update": "Training had not changed the layer.",
    }[outcome.stop_reason]


def intro(result: Outcome) -> str:
    """Return what flain does, in three sentences."""
    return (
        "A backdoor makes a model obey a hidden trigger. Federated training can slip one in, and "
        "it then lives in weights that clean samples hardly use. flain looked for such weights in "
        f"{counted(len(result.layers), 'layer')} of this model, and turned round what training "
        "had done to them for as long as clean samples did not suffer."
    )


def duration(seconds: float) -> str:
    """Write a duration.

    >>> duration(2.345), duration(200)
    ('2.3 seconds', '3.3 minutes')
    """
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
