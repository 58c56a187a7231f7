"""The verdict on a purification, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .layer import LayerOutcome

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
