"""The verdict on a purification, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .layer import LayerOutcome

Verdict = Literal["flipped", "partly flipped", "hardly flipped", "not flipped"]
"""``"flipped"``: a fair part of an update was flipped; whether a backdoor was in it, only a probe
with its trigger shows. ``"partly flipped"``: a fair part of what the update says for one class, but
little of all of it; a backdoor that leads to another class is probably still there, if there was
one. ``"hardly flipped"``: so little, or in layers that do not move the scores, that a backdoor is
probably still there, if there was one.
``"not flipped"``: the model is as it was."""

_FAIR_SHARE = 0.1


def verdict_on(outcomes: Sequence[LayerOutcome]) -> Verdict:
    """Return the verdict on all layers together."""
    if not any(outcome.share for outcome in outcomes):
        return "not flipped"
    # What does not move the scores removes nothing.
    moving = [outcome for outcome in outcomes if outcome.moves_scores and outcome.share]
    if not moving:
        return "hardly flipped"
    if any(outcome.share >= _FAIR_SHARE for outcome in moving):
        return "flipped"
    of_a_class = flipped_for_a_class(moving).class_share or 0.0
    return "partly flipped" if of_a_class >= _FAIR_SHARE else "hardly flipped"


def flipped_for_a_class(outcomes: Sequence[LayerOutcome]) -> LayerOutcome:
    """Return the layer of which most was flipped of what it says for one class."""
    return max(outcomes, key=lambda outcome: outcome.class_share or 0.0)
