"""Says in few words what a purification did, and no more than it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .outcome import LayerOutcome

__all__ = ["Verdict", "reason_for", "verdict_on"]

Verdict = Literal["flipped", "hardly flipped", "not flipped"]
"""``"flipped"``: a fair part of an update was flipped; whether a backdoor was in it, only a probe
with its trigger shows. ``"hardly flipped"``: so little that a backdoor is probably still there, if
there was one. ``"not flipped"``: the model is as it was."""

_FAIR_SHARE = 0.1


def verdict_on(outcomes: Sequence[LayerOutcome]) -> Verdict:
    """Return the verdict on all layers together."""
    share = max(outcome.share for outcome in outcomes)
    if not share:
        return "not flipped"
    return "flipped" if share >= _FAIR_SHARE else "hardly flipped"


def reason_for(outcomes: Sequence[LayerOutcome]) -> str:
    """Return a sentence that explains the verdict."""
    verdict = verdict_on(outcomes)
    most = max(outcomes, key=lambda outcome: outcome.share)
    if verdict == "not flipped":
        if all("does not move the scores" in outcome.why_method for outcome in outcomes):
            return (
                "not flipped: the chosen layers do not move the scores, so nothing can be removed "
                "there; choose another layer"
            )
        if any(outcome.stop_reason == "promise" for outcome in outcomes):
            return (
                "not flipped: the model is as it was, with a backdoor if it had one; not even the "
                "weakest candidate kept the promise. Ask for a larger one, or give more samples"
            )
        return (
            "not flipped: the model is as it was, with a backdoor if it had one; try another "
            "layer, more samples, or a larger tolerance"
        )
    flipped = f"{most.share:.1%} of the update of {most.name!r} was flipped"
    if verdict == "hardly flipped":
        return (
            f"hardly flipped: only {flipped} before clean samples suffered. No input of the layer "
            "is idle on clean data (as behind batch normalisation), or the samples are too few; a "
            "backdoor is probably still there, if there was one. Try another layer, or another "
            "defence beside this one"
        )
    return (
        f"flipped: {flipped}, where clean samples hardly use it. A backdoor elsewhere stays; only "
        "a probe with its trigger shows whether one is gone"
    )
