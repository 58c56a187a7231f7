"""Decides whether a candidate lost too much."""

from __future__ import annotations

from dataclasses import dataclass

from .score import Loss, Scored, Tally
from .settings import Settings, as_fraction

__all__ = ["Stop"]


@dataclass(frozen=True)
class Stop:
    """The rule that ends a search.

    Attributes:
        settings: What is measured and how much of it may be lost, with every choice made.

    Example:
        >>> from flain_core.score import Tally
        >>> before, after = Scored(Tally(1000, 1000)), Scored(Tally(998, 1000))
        >>> Stop(Settings(measure="score")).crossed(before, after)
        False
        >>> Stop(Settings(measure="score", crossing="keep")).crossed(before, after)
        True
    """

    settings: Settings

    def crossed(self, before: Scored, now: Scored) -> bool:
        """Return whether what was lost crosses the tolerance, which counts as a decimal."""
        return self._crossed(before, now, 0)

    def is_close(self, before: Scored, now: Scored) -> bool:
        """Return whether rounding could have changed the decision."""
        return self._crossed(before, now, -1) != self._crossed(before, now, 1)

    def _crossed(self, before: Scored, now: Scored, roundings: int) -> bool:
        """Decide on what was lost, or on the least (-1) or the most (1) that it may have been."""
        if now.loss is None:
            tally = now.lost or Tally(
                before.clean.total - now.clean.total, now.clean.count, now.clean.uncertain
            )
            lost = tally.total + roundings * tally.uncertain
            allowed = as_fraction(self.settings.allowed(None)) * tally.count
        else:
            lost = _with_error(now.loss, roundings)
            allowed = as_fraction(self.settings.allowed(now.loss.missing))
        return lost >= allowed if self.settings.crossing == "keep" else lost > allowed


def _with_error(loss: Loss, roundings: int) -> float:
    # Rounding moves the standard error by no more than it moves the mean.
    return loss.mean + loss.standard_error + 2 * roundings * loss.uncertain / loss.count
