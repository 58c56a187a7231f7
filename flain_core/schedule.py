"""Turns thresholds into events; each event flips some neurons that were not flipped before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .errors import LayerError
from .network import Array
from .settings import Grid

MOST_EVENTS = 4096
"""Most candidates that are tried without a grid; beyond, neighbouring values are grouped."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The neurons in ascending order of activation, and how many of them each candidate flips.

    A candidate flips the first ``n_flipped`` neurons of the order. Thresholds that flip nothing new
    are no candidates: they would score what the one before scored. Only the very first threshold is
    one even if it flips nothing, because a tolerance of 0 can be crossed there.

    Attributes:
        activation: ``(in,)`` float64, the statistic of every input neuron.
        order: ``(m,)`` indices of the neurons that may be flipped (activation >= 0), ascending.
        thresholds: ``(events,)`` float64, the smallest threshold that causes each event.
        n_flipped: ``(events,)`` int, strictly ascending: how many neurons each event flips.
        grouped: Most distinct activation values that one event stands for; 1 if not grouped.
    """

    activation: Array
    order: Array
    thresholds: Array
    n_flipped: Array
    grouped: int = 1

    @classmethod
    def of(cls, activation: Array, grid: Grid | None = None) -> Schedule:
        """Build the schedule for a grid, or for every distinct activation value.

        Args:
            activation: ``(in,)`` finite.
            grid: The thresholds to try; None tries every distinct value.

        Raises:
            LayerError: No neuron can be flipped, because every activation is negative; or one is
                not finite.

        Example:
            >>> schedule = Schedule.of(np.array([0.3, 0.0, 0.2, 0.0]))
            >>> schedule.order, schedule.thresholds, schedule.n_flipped
            (array([1, 3, 2, 0]), array([0. , 0.2, 0.3]), array([2, 3, 4]))
            >>> Schedule.of(schedule.activation, Grid(start=0.1, step=0.2, stop=0.9)).n_flipped
            array([2, 4])
        """
        activation = np.asarray(activation, dtype=np.float64)
        if not np.isfinite(activation).all():
            raise LayerError(
                "the activation of some input neurons is too large for a float64; scale the data"
            )
        eligible = np.flatnonzero(activation >= 0)
        if not eligible.size:
            raise LayerError(
                "every input neuron of this layer has a negative mean activation, so none counts "
                'as low; use Settings(statistic="mean_abs") for layers that do not follow a ReLU'
            )
        order = eligible[np.argsort(activation[eligible], kind="stable")]
        ascending = activation[order]
        distinct = np.unique(ascending)
        grouped = 1
        if grid is not None:
            thresholds = grid.thresholds()
        else:
            grouped = -(-distinct.size // MOST_EVENTS)
            thresholds = distinct[_last_of_each(distinct.size, grouped)]
        n_flipped = np.searchsorted(ascending, thresholds, side="right")
        causes = np.flatnonzero(np.diff(n_flipped, prepend=-1))
        return cls(activation, order, thresholds[causes], n_flipped[causes], grouped)

    def __len__(self) -> int:
        return int(self.n_flipped.size)

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Yield each event as (threshold, n_flipped)."""
        return zip(self.thresholds.tolist(), self.n_flipped.tolist(), strict=True)

    @property
    def most_tried(self) -> int:
        """Most candidates that a search tries: all of them."""
        return len(self)

    def neurons(self, number: int) -> int:
        """Return how many neurons a candidate flips: the number that stands for it."""
        return number

    def flipped(self, n_flipped: int) -> Array:
        """``(in,)`` boolean: the first ``n_flipped`` neurons of the order."""
        mask = np.zeros(self.activation.size, dtype=bool)
        mask[self.order[:n_flipped]] = True
        return mask

    def __repr__(self) -> str:
        return (
            f"Schedule({len(self)} events over {self.order.size} of {self.activation.size} neurons)"
        )


@dataclass(frozen=True, eq=False)
class Strengths:
    """The candidates of flipping in directions: ever greater strengths, numbered from 1.

    Attributes:
        activation: ``(in,)`` float64, the variance of every input neuron.
        thresholds: ``(candidates,)`` float64, ascending, in units of the variance.
    """

    activation: Array
    thresholds: Array
    grouped = 1

    def __len__(self) -> int:
        return int(self.thresholds.size)

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Yield each candidate as (strength, number)."""
        return zip(self.thresholds.tolist(), range(1, len(self) + 1), strict=True)

    @property
    def most_tried(self) -> int:
        """Most candidates that a search tries, in growing strides and then by halves."""
        return 2 * len(self).bit_length()

    def neurons(self, number: int) -> int:
        """Return how many neurons have at least half of their update flipped."""
        return int(np.count_nonzero(self.flipped(number)))

    def flipped(self, number: int) -> Array:
        """``(in,)`` boolean: neurons whose variance is at most the strength.

        At least half of their update is flipped: a diagonal entry of an inverse is at least the
        inverse of the diagonal entry.
        """
        mask: Array = self.activation <= (self.thresholds[number - 1] if number else -1.0)
        return mask


def _last_of_each(count: int, size: int) -> Array:
    """Indices of the last of each ``size`` consecutive items; the last group may be shorter.

    >>> _last_of_each(5, 2)
    array([1, 3, 4])
    """
    last: Array = np.minimum(np.arange(size - 1, count + size - 1, size), count - 1)
    return last
