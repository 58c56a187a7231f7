"""Limits what a single holder may weigh, whatever number of samples it claims."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from flain_core.network import Array

__all__ = ["Weights"]

_TOO_FEW_HOLDERS = 3


@dataclass(frozen=True, eq=False)
class Weights:
    """How many samples each holder counts for.

    Attributes:
        each: The numbers, exact.
        limited: Whether a holder counts for fewer than it has.

    Example:
        >>> [int(weight) for weight in Weights.of((10, 20, 1_000), Fraction(1, 2)).each]
        [10, 20, 30]
        >>> Weights.of((10, 20, 30), Fraction(1, 2)).limited
        False
    """

    each: tuple[Fraction, ...]
    limited: bool

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, counts: tuple[int, ...], largest_share: Fraction) -> Weights:
        """Limit each holder's number of samples to a share of all that count.

        Of fewer than three holders each counts for all it has, as either of two would have at least
        half; with fewer holders than the share leaves room for, all count alike.

        Args:
            counts: Number of samples of each holder, at least 1.
            largest_share: Largest share of all that count which may be one holder's.
        """
        whole = tuple(map(Fraction, counts))
        if len(counts) < _TOO_FEW_HOLDERS:
            return cls(whole, limited=False)
        share = max(largest_share, Fraction(1, len(counts)))
        rest = sum(whole, Fraction())
        most = share * rest
        # As the largest are held to the limit, all shrinks, and the limit with it.
        for held, count in enumerate(sorted(counts, reverse=True), start=1):
            if count <= most:
                break
            rest -= count
            most = share * rest / (1 - held * share)
        return cls(tuple(min(count, most) for count in whole), limited=max(whole) > most)

    @cached_property
    def count(self) -> int:
        """The number of samples that count in all, rounded down."""
        return int(sum(self.each))

    @cached_property
    def shares(self) -> Array:
        """``(holders,)`` float64, the weights divided by their sum."""
        whole = sum(self.each)
        return np.array([float(weight / whole) for weight in self.each])

    def mean(self, values: list[Fraction]) -> Fraction:
        """Return the exact weighted mean of a number of each holder."""
        total = sum(one * weight for one, weight in zip(values, self.each, strict=True))
        return Fraction(total) / sum(self.each)
