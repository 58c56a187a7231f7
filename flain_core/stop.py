"""Decides whether a candidate lost too much: the rule that ends a search."""

from __future__ import annotations

import math
from fractions import Fraction

from .settings import Settings, as_fraction
from .tallies import Scored, Tally

_FURTHEST = 10
_NEAREST = 1.01


def crossed(settings: Settings, before: Scored, now: Scored, roundings: int = 0) -> bool:
    """Return whether what was lost crosses the tolerance, which counts as a decimal.

    Args:
        settings: What is measured and how much of it may be lost, with every choice made.
        before: The model that losses are counted from.
        now: A candidate.
        roundings: -1 counts the least that it may have lost, 1 the most.

    Example:
        >>> before, after = Scored(Tally(1000, 1000)), Scored(Tally(998, 1000))
        >>> crossed(Settings(measure="score"), before, after)
        False
        >>> crossed(Settings(measure="score", crossing="keep"), before, after)
        True
    """
    lost, allowed = _lost_and_allowed(settings, before, now, roundings)
    return lost >= allowed if settings.crossing == "keep" else lost > allowed


def is_close(settings: Settings, before: Scored, now: Scored) -> bool:
    """Return whether rounding could have changed the decision."""
    return crossed(settings, before, now, -1) != crossed(settings, before, now, 1)


def overspent(settings: Settings, before: Scored, now: Scored) -> float:
    """Return the logarithm of what was lost over what may be lost: positive where it crosses.

    It is never 0, and limited to the logarithms of a tenth and of ten, since the tolerance may be 0
    and the quotient infinite.

    Example:
        >>> before, after = Scored(Tally(1000, 1000)), Scored(Tally(996, 1000))
        >>> math.exp(overspent(Settings(measure="score"), before, after))  # doctest: +ELLIPSIS
        2.0...
    """
    lost, allowed = _lost_and_allowed(settings, before, now, 0)
    side = 1 if crossed(settings, before, now) else -1
    # Compared first, as a quotient may be too large or too small for a float.
    if lost >= _FURTHEST * allowed or _FURTHEST * lost <= allowed:
        return side * math.log(_FURTHEST)
    return side * max(abs(math.log(lost / allowed)), math.log(_NEAREST))


def _lost_and_allowed(
    settings: Settings, before: Scored, now: Scored, roundings: int
) -> tuple[float, Fraction]:
    """Return what was lost, or the least (-1) or the most (1) that it may have been; and the limit.

    Both are sums over the samples, or both are means.
    """
    if now.loss is None:
        tally = now.score_lost or Tally(
            before.clean.total - now.clean.total, now.clean.count, now.clean.uncertain
        )
        lost = tally.total + roundings * tally.uncertain
        # What several holders lost may be a fraction, whose denominator counts no samples.
        return lost, settings.allowed_of_score(now.clean.count) * tally.count
    loss = now.loss
    # Rounding moves the standard error by no more than it moves the mean.
    lost = loss.mean + loss.standard_error + 2 * roundings * loss.uncertain / loss.count
    return lost, as_fraction(settings.allowed(loss.missing, now.class_share))
