"""Decides whether a candidate lost too much: the rule that ends a search."""

from __future__ import annotations

from .score import Loss, Scored, Tally
from .settings import Settings, as_fraction

__all__ = ["crossed", "is_close"]


def crossed(settings: Settings, before: Scored, now: Scored) -> bool:
    """Return whether what was lost crosses the tolerance, which counts as a decimal.

    Args:
        settings: What is measured and how much of it may be lost, with every choice made.
        before: The model that losses are counted from.
        now: A candidate.

    Example:
        >>> before, after = Scored(Tally(1000, 1000)), Scored(Tally(998, 1000))
        >>> crossed(Settings(measure="score"), before, after)
        False
        >>> crossed(Settings(measure="score", crossing="keep"), before, after)
        True
    """
    return _crossed(settings, before, now, 0)


def is_close(settings: Settings, before: Scored, now: Scored) -> bool:
    """Return whether rounding could have changed the decision."""
    return _crossed(settings, before, now, -1) != _crossed(settings, before, now, 1)


def _crossed(settings: Settings, before: Scored, now: Scored, roundings: int) -> bool:
    """Decide on what was lost, or on the least (-1) or the most (1) that it may have been."""
    if now.loss is None:
        tally = now.lost or Tally(
            before.clean.total - now.clean.total, now.clean.count, now.clean.uncertain
        )
        lost = tally.total + roundings * tally.uncertain
        allowed = as_fraction(settings.allowed(None)) * tally.count
    else:
        lost = _with_error(now.loss, roundings)
        allowed = as_fraction(settings.allowed(now.loss.missing))
    return lost >= allowed if settings.crossing == "keep" else lost > allowed


def _with_error(loss: Loss, roundings: int) -> float:
    # Rounding moves the standard error by no more than it moves the mean.
    return loss.mean + loss.standard_error + 2 * roundings * loss.uncertain / loss.count
