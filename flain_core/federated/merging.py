"""Merges the findings of several holders into their sum, or into a robust mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from operator import add
from typing import Literal, TypeAlias

import numpy as np

from flain_core.activation import SUMS, ActivationStatistics
from flain_core.errors import SettingsError
from flain_core.network import Array
from flain_core.outputs import Reading
from flain_core.settings import as_fraction, one_of
from flain_core.tallies import Loss, Scored, Tally

__all__ = ["Merging", "Rule"]

Rule = Literal["sum", "median", "trimmed_mean"]

Weights: TypeAlias = "tuple[Fraction, ...]"
"""Number of samples that each holder counts for, exactly."""

_Counted: TypeAlias = "ActivationStatistics | Tally | Loss"

_TOO_FEW_HOLDERS = 3
_MOST = 0.5


@dataclass(frozen=True)
class Merging:
    """A rule that merges the findings of several holders.

    What a model lost is merged as each holder's own loss since the trained model: holders differ in
    how well the trained model does on their samples, and that is no loss.

    Attributes:
        rule: ``"sum"`` counts every sample once, as if all were in one place. ``"median"`` and
            ``"trimmed_mean"`` count every holder once, number by number, which bounds what holders
            that lie can do, as long as they are fewer than half, or than the trimmed share.
        trim: Share of the holders that ``"trimmed_mean"`` leaves out at either end, from 0 to less
            than one half; rounded down to whole holders, but to no fewer than one.
        largest_share: Largest share of all samples that one of three holders or more can have, from
            more than 0 to 1: one with more counts as if it had fewer that score alike. With the
            default, no holder outweighs all others together, but two can; 1 sets no limit.

    Raises:
        SettingsError: A value is out of range.

    Example:
        >>> honest = [Tally(9, 10), Tally(8, 10)]
        >>> Merging().tally([*honest, Tally(0, 10)]).total
        17
        >>> Merging().tally([*honest, Tally(0, 1_000_000)]).count
        40
        >>> Merging("median").tally([*honest, Tally(0, 10)]).mean
        0.8
    """

    rule: Rule = "sum"
    trim: float = 0.2
    largest_share: float = 0.5

    def __post_init__(self) -> None:
        one_of(self.rule, ("sum", "median", "trimmed_mean"), "the merging rule")
        if not isinstance(self.trim, (int, float)) or not 0 <= self.trim < 0.5:
            raise SettingsError(f"expected a trim from 0 to less than 0.5; got {self.trim!r}")
        share = self.largest_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise SettingsError(f"expected a largest_share from more than 0 to 1; got {share!r}")

    @property
    def least(self) -> int:
        """Number of holders that the rule needs."""
        return 3 if self.rule == "trimmed_mean" and self.trim else 1

    def statistics(self, each: Sequence[ActivationStatistics]) -> ActivationStatistics:
        """Merge how the holders' samples activate a layer."""
        weights = self._weights(each)
        if self._is_plain_sum(weights, each):
            return reduce(ActivationStatistics.merge, each)
        count = self._count(weights)
        sums = {name: count * mean for name, mean in self._means(each, SUMS, weights).items()}
        active = np.rint(sums.pop("active")).astype(np.int64)
        return ActivationStatistics(count=count, active=active, **sums)

    def tally(self, each: Sequence[Tally]) -> Tally:
        """Merge the tallies of a model on the holders' samples."""
        return self._tally(each, self._weights(each))

    def lost(self, trained: Sequence[Tally], now: Sequence[Tally]) -> Tally | None:
        """Merge what was lost of each holder's score, as a quotient of whole numbers.

        None where every sample counts once, so that the sums of tallies tell.
        """
        weights = self._weights(now)
        if self._is_plain_sum(weights, now):
            return None
        each = [
            (Fraction(before.total) - Fraction(after.total)) / after.count
            for before, after in zip(trained, now, strict=True)
        ]
        mean = self._exact(each, weights)
        if not any(one.uncertain for one in now):
            return Tally(mean.numerator, mean.denominator)
        off = [Fraction(one.uncertain) / one.count for one in now]
        # What lies between two bounds with each holder lies between their merged bounds.
        highest = self._exact([one + far for one, far in zip(each, off, strict=True)], weights)
        lowest = self._exact([one - far for one, far in zip(each, off, strict=True)], weights)
        uncertain = max(highest - mean, mean - lowest) * mean.denominator
        return Tally(mean.numerator, mean.denominator, math.ceil(uncertain))

    def loss(self, each: Sequence[Loss]) -> Loss:
        """Merge what the holders' samples lost of the probability of their class."""
        weights = self._weights(each)
        if self._is_plain_sum(weights, each) or len(each) == 1:
            return reduce(add, each)
        if self.rule != "sum":
            return self._robust_loss(each, weights)
        names = ("total", "square", "newly_wrong", "before", "uncertain")
        count = int(sum(weights))
        means = self._means(each, names, weights)
        sums = {name: count * float(mean) for name, mean in means.items()}
        return Loss(count=count, newly_wrong=round(sums.pop("newly_wrong")), **sums)

    def scored(self, each: Sequence[Scored], trained: Sequence[Tally] | None = None) -> Scored:
        """Merge the scores of a model; a probe's over the holders that have samples of it.

        Args:
            each: What each holder found.
            trained: What the trained model scores with each of them; None if that is not known.
        """
        names = dict.fromkeys(name for one in each for name in one.probes)
        clean = [one.clean for one in each]
        losses = [one.loss for one in each if one.loss]
        probes = {name: [one.probes[name] for one in each if name in one.probes] for name in names}
        return Scored(
            clean=self.tally(clean),
            # They steer nothing, and may lie with a single holder.
            probes={
                name: self._tally(tallies, tuple(Fraction(one.count) for one in tallies))
                for name, tallies in probes.items()
            },
            loss=self.loss(losses) if losses else None,
            score_lost=self.lost(trained, clean) if trained and not losses else None,
        )

    def reading(self, each: Sequence[Reading], trained: Sequence[Tally]) -> Reading:
        """Merge how holders read the scores of a model; they agree on outputs and classes.

        Args:
            each: How each holder reads them.
            trained: What the model scores with each of them.
        """
        weights = self._weights(trained)
        numbers = np.array([[one.confidence, one.decided, one.doubtful] for one in each], float)
        confidence, decided, doubtful = self._mean(numbers, weights).tolist()
        excess = np.stack([one.excess for one in each])
        merged = self._mean(excess, weights)
        if self._is_plain_sum(weights, trained):
            # Exactly, as in one place.
            counts = np.array([one.count for one in trained])
            merged = np.rint(excess * counts[:, np.newaxis]).sum(axis=0) / counts.sum()
        return replace(
            each[0],
            confidence=confidence,
            decided=decided > _MOST,
            # One score outside of [0, 1] settles it, if all are honest.
            doubtful=all(one.doubtful for one in each) if self.rule == "sum" else doubtful > _MOST,
            excess=merged,
        )

    def _tally(self, each: Sequence[Tally], weights: Weights) -> Tally:
        if self._is_plain_sum(weights, each) or len(each) == 1:
            return reduce(add, each)
        count = self._count(weights)
        means = np.array([float(one.mean) for one in each])
        off = np.array([one.uncertain / one.count for one in each])
        mean, uncertain = self._bounded(means, off, weights)
        return Tally(mean * count, count, uncertain * count)

    def _robust_loss(self, each: Sequence[Loss], weights: Weights) -> Loss:
        """Return the sums that samples have whose mean loss and its error are the merged ones."""
        count = self._count(weights)
        means = np.array([one.mean for one in each])
        off = np.array([one.uncertain / one.count for one in each])
        mean, uncertain = self._bounded(means, off, weights)
        errors, wrong, missing = self._mean(
            [
                np.array([min(one.standard_error, 1.0), one.newly_wrong / one.count, one.missing])
                for one in each
            ],
            weights,
        ).tolist()
        # The median of k means errs by at most sqrt(pi / 2k) times the error of one.
        error = math.sqrt(math.pi / 2 / len(each)) * errors
        return Loss(
            total=mean * count,
            square=count * mean**2 + count * (count - 1) * error**2,
            newly_wrong=round(wrong * count),
            count=count,
            before=(1 - missing) * count,
            uncertain=uncertain * count,
        )

    def _weights(self, each: Sequence[_Counted]) -> Weights:
        return limited(tuple(one.count for one in each), as_fraction(self.largest_share))

    def _count(self, weights: Weights) -> int:
        """Return how many samples count: robustly, as many of each holder as of the middle one."""
        if self.rule == "sum":
            return int(sum(weights))
        return len(weights) * int(sorted(weights)[(len(weights) - 1) // 2])

    def _is_plain_sum(self, weights: Weights, each: Sequence[_Counted]) -> bool:
        return self.rule == "sum" and weights == tuple(one.count for one in each)

    def _bounded(self, means: Array, off: Array, weights: Weights) -> tuple[float, float]:
        """Return the merged mean of a number, and how far rounding may have moved it."""
        if not off.any():
            return float(self._mean(means, weights)), 0.0
        # What lies between two bounds with each holder lies between their merged bounds.
        columns = np.stack([means, means - off, means + off], axis=1)
        mean, lowest, highest = self._mean(columns, weights).tolist()
        return mean, max(highest - mean, mean - lowest, 0.0)

    def _means(
        self, each: Sequence[_Counted], names: Iterable[str], weights: Weights
    ) -> dict[str, Array]:
        """Return the merged means over samples of what each holder has as sums, by name."""
        return {
            name: self._mean([getattr(one, name) / one.count for one in each], weights)
            for name in names
        }

    def _mean(self, values: Sequence[Array] | Array, weights: Weights) -> Array:
        """Return the merged mean of numbers of each holder, ``(holders, ...)``."""
        if self.rule == "sum":
            weighted: Array = _shares(weights) @ np.asarray(values)
            return weighted
        kept: Array = np.sort(values, axis=0)[self._kept(len(values))]
        mean: Array = kept.mean(axis=0)
        return mean

    def _exact(self, values: list[Fraction], weights: Weights) -> Fraction:
        """Return the merged mean of a number of each holder, without rounding."""
        if self.rule == "sum":
            total = sum(
                (one * weight for one, weight in zip(values, weights, strict=True)), Fraction()
            )
            return total / sum(weights)
        kept = sorted(values)[self._kept(len(values))]
        return sum(kept, Fraction()) / len(kept)

    def _kept(self, holders: int) -> slice:
        """Return which of the holders' numbers, in ascending order, the mean is taken of."""
        if self.rule == "median":
            return slice((holders - 1) // 2, holders // 2 + 1)
        cut = max(1, int(as_fraction(self.trim) * holders)) if self.trim else 0
        if holders <= 2 * cut:
            raise SettingsError(
                f"nothing is left of {holders} holders after trimming {cut} at either end; "
                f"trimmed_mean needs at least {self.least}"
            )
        return slice(cut, holders - cut)


@lru_cache(maxsize=64)
def limited(counts: tuple[int, ...], largest_share: Fraction) -> Weights:
    """Limit what a single holder may weigh, whatever number of samples it claims.

    Of fewer than three holders each counts for all it has, as either of two would have at least
    half; with fewer holders than the share leaves room for, all count alike.

    Args:
        counts: Number of samples of each holder, at least 1.
        largest_share: Largest share of all that count which may be one holder's.

    Returns:
        How many samples each holder counts for.

    Example:
        >>> [int(weight) for weight in limited((10, 20, 1_000), Fraction(1, 2))]
        [10, 20, 30]
    """
    whole = tuple(map(Fraction, counts))
    if len(counts) < _TOO_FEW_HOLDERS:
        return whole
    share = max(largest_share, Fraction(1, len(counts)))
    rest = sum(whole, Fraction())
    most = share * rest
    # As the largest are held to the limit, all shrinks, and the limit with it.
    for held, count in enumerate(sorted(counts, reverse=True), start=1):
        if count <= most:
            break
        rest -= count
        most = share * rest / (1 - held * share)
    return tuple(min(count, most) for count in whole)


@lru_cache(maxsize=64)
def _shares(weights: Weights) -> Array:
    """``(holders,)`` float64: the weights divided by their sum."""
    whole = sum(weights)
    return np.array([float(weight / whole) for weight in weights])
