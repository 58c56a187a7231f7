"""The verdict on a purification in few words, and the sentence that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from flain_core.settings import ENOUGH_OF_A_CLASS

from .layer import LayerOutcome

Verdict = Literal["flipped", "partly flipped", "hardly flipped", "not flipped"]
"""``"flipped"``: a fair part of an update was flipped; whether a backdoor was in it, only a probe
with its trigger shows. ``"partly flipped"``: a fair part of what the update says for one class, but
little of all of it; a backdoor that leads to another class is probably still there, if there was
one. ``"hardly flipped"``: so little, or in layers that do not move the scores, that a backdoor is
probably still there, if there was one.
``"not flipped"``: the model is as it was."""

_FAIR_SHARE = 0.1
_LITTLE_LOST = 0.01

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
    "samples of one class": "samples of one class cannot say what the others lose",
}
_TRY_ELSE = "try another layer, more samples, or a larger tolerance"
_TRY_NEXT = (
    "Give more samples, or name another layer, or allow a larger loss, such as tolerance={} in "
    "the settings; or use another defence beside this one"
)
_LARGER_OF_PROBABILITY, _LARGER_OF_SCORE = 0.04, 0.01


def verdict_on(outcomes: Sequence[LayerOutcome]) -> Verdict:
    """Return the verdict on all layers together."""
    if not any(outcome.share for outcome in outcomes):
        return "not flipped"
    counting = those_that_count(outcomes)
    if not any(map(counts, counting)):
        return "hardly flipped"
    if any(outcome.share >= _FAIR_SHARE for outcome in counting):
        return "flipped"
    of_a_class = flipped_for_a_class(counting).class_share or 0.0
    return "partly flipped" if of_a_class >= _FAIR_SHARE else "hardly flipped"


def matters_little(outcome: LayerOutcome) -> bool:
    """Return whether all that can be flipped in directions was, and samples hardly noticed.

    That is known only where the probability steers. Of samples that gained, the layer matters.
    """
    if outcome.flip != "directions" or outcome.stop_reason != "exhausted":
        return False
    lost = outcome.steps[-1].loss
    return lost is not None and abs(lost) < _LITTLE_LOST


def counts(outcome: LayerOutcome) -> bool:
    """Return whether a verdict may rest on a layer that was flipped.

    Flipping what does not move the scores, or matters little to them, removes nothing.
    """
    return outcome.moves_scores and not matters_little(outcome)


def those_that_count(outcomes: Sequence[LayerOutcome]) -> Sequence[LayerOutcome]:
    """Return the layers on which a verdict rests: of those that were flipped, what counts."""
    flipped = [outcome for outcome in outcomes if outcome.share]
    return list(filter(counts, flipped)) or flipped or outcomes


def flipped_for_a_class(outcomes: Sequence[LayerOutcome]) -> LayerOutcome:
    """Return the layer of which most was flipped of what it says for one class."""
    return max(outcomes, key=lambda outcome: outcome.class_share or 0.0)


def what_is_left(outcome: LayerOutcome) -> str:
    """Say how much may be left of a backdoor for the class of which most was flipped."""
    enough = (outcome.class_share or 0.0) >= ENOUGH_OF_A_CLASS
    return "is usually mostly gone" if enough else "may be left in part"


def reason_for(outcomes: Sequence[LayerOutcome]) -> str:
    """Return a sentence that explains the verdict."""
    verdict, counting = verdict_on(outcomes), those_that_count(outcomes)
    most = max(counting, key=lambda outcome: outcome.share)
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
        most = flipped_for_a_class(counting)
    flipped = f"of {most.name!r}, {most.share_in_words()} was flipped"
    if not any(outcome.moves_scores for outcome in counting):
        return (
            f"{verdict}: {flipped}, which does not move the scores, so nothing was removed: the "
            "layer's update, or the factor, is too small to matter. A backdoor is probably still "
            "there, if there was one. Choose another layer"
        )
    if not any(map(counts, counting)):
        return (
            f"{verdict}: {flipped}, all that could be, and clean samples lost next to nothing. "
            "They do not need what training added there, or it matters little to the scores. A "
            "backdoor may well be elsewhere, if there was one; a probe shows that. Choose another "
            "layer"
        )
    if verdict == "partly flipped":
        left = what_is_left(most)
        if most.most_flipped_class is None:
            of_backdoors = f"A backdoor in this layer {left}"
        else:
            of_backdoors = (
                f"A backdoor that leads to that class {left}. One that leads to another class is "
                "probably still there, if there was one, as clean samples use nearly all that the "
                "layer says for the others"
            )
        return (
            f"partly flipped: {flipped}. {of_backdoors}. Only a probe with its trigger shows that. "
            f"{_try_next(outcomes)}"
        )
    if verdict == "hardly flipped":
        return (
            f"hardly flipped: {flipped} before clean samples suffered. They use nearly all of the "
            "layer's inputs, as they do of small layers, behind recurrent ones and behind batch "
            "normalisation, or they are too few. A backdoor is probably still there, if there was "
            f"one. {_try_next(outcomes)}"
        )
    several = most.most_flipped_class is not None
    stays = "stays, and one that leads to another class may" if several else "stays"
    return (
        f"flipped: {flipped}, where clean samples hardly use it. A backdoor elsewhere {stays}; "
        "only a probe with its trigger shows whether one is gone"
    )


def _try_next(outcomes: Sequence[LayerOutcome]) -> str:
    by_score = any(step.loss is None for outcome in outcomes for step in outcome.steps)
    return _TRY_NEXT.format(_LARGER_OF_SCORE if by_score else _LARGER_OF_PROBABILITY)
