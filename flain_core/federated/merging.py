"""Merges the findings of several holders into their sum, or into a robust mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.errors import SettingsError
from flain_core.network import Array
from flain_core.score import Scored, Tally
from flain_core.settings import one_of

__all__ = ["Merging", "Rule"]

Rule = Literal["sum", "median", "trimmed_mean"]


@dataclass(frozen=True)
class Merging:
    """A rule that merges the findings of several holders.

    Attributes:
        rule: ``"sum"`` counts every sample once, as if all were in one place. ``"median"`` and
            ``"trimmed_mean"`` count every holder once, coordinate by coordinate, which bounds what
            holders that lie can do, as long as they are fewer than half, or than the trimmed share.
        trim: Share of the holders that ``"trimmed_mean"`` leaves out at either end, from 0 to less
            than one half; rounded down to whole holders, but to no fewer than one.

    Raises:
        SettingsError: A value is out of range.

    Example:
        >>> honest = [Tally(9, 10), Tally(8, 10)]
        >>> Merging().tally([*honest, Tally(0, 10)]).total
        17
        >>> Merging("median").tally([*honest, Tally(0, 10)]).mean
        0.8
    """

    rule: Rule = "sum"
    trim: float = 0.2

    def __post_init__(self) -> None:
        one_of(self.rule, ("sum", "median", "trimmed_mean"), "the merging rule")
        if not isinstance(self.trim, (int, float)) or not 0 <= self.trim < 0.5:
            raise SettingsError(f"expected a trim from 0 to less than 0.5; got {self.trim!r}")

    def statistics(self, each: Sequence[ActivationStatistics]) -> ActivationStatistics:
        """Merge how the holders' samples activate a layer."""
        if self.rule == "sum":
            return reduce(ActivationStatistics.merge, each)
        count = sum(one.count for one in each)

        def total(name: str) -> Array:
            return self._robust([getattr(one, name) / one.count for one in each]) * count

        return ActivationStatistics(
            count=count,
            total=total("total"),
            total_abs=total("total_abs"),
            total_square=total("total_square"),
            active=np.rint(total("active")).astype(np.int64),
        )

    def tally(self, each: Sequence[Tally]) -> Tally:
        """Merge the tallies of a model on the holders' samples."""
        if self.rule == "sum":
            return reduce(add, each)
        count = sum(one.count for one in each)
        mean = float(self._robust([np.asarray(one.mean) for one in each]))
        # Whichever holder the mean rests on, it may be as uncertain as the most uncertain one.
        uncertain = max(one.uncertain / one.count for one in each)
        return Tally(mean * count, count, uncertain * count)

    def scored(self, each: Sequence[Scored]) -> Scored:
        """Merge the scores of a model; a probe's over the holders that have samples of it."""
        names = dict.fromkeys(name for one in each for name in one.probes)
        return Scored(
            clean=self.tally([one.clean for one in each]),
            probes={
                name: self.tally([one.probes[name] for one in each if name in one.probes])
                for name in names
            },
        )

    def _robust(self, values: Sequence[Array]) -> Array:
        if self.rule == "median":
            middle: Array = np.median(values, axis=0)
            return middle
        ascending = np.sort(values, axis=0)
        cut = max(1, int(self.trim * len(values))) if self.trim else 0
        kept: Array = ascending[cut : len(values) - cut]
        if not len(kept):
            raise SettingsError(
                f"nothing is left of {len(values)} holders after trimming {cut} at either end; "
                "take more holders or a smaller trim"
            )
        mean: Array = kept.mean(axis=0)
        return mean
