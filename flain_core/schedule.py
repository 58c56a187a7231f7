"""Lists the candidates of a search: thresholds of neurons, or strengths in directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .errors import LayerError
from .network import Array
from .settings import Grid

MOST_EVENTS = 4096
"""Most candidates that are tried without a grid; beyond, neighbouring values are grouped."""


class AllNegativeError(LayerError):
    """No input neuron of a layer can count as low, as every mean activation is negative."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The neurons in ascending order of activation, and how many of them each candidate flips.

    A candidate flips the first ``n_flipped`` neurons of the order, and that is its number.
    Thresholds that flip nothing new are no candidates: they would score what the one before scored.
    Only the very first threshold is one even if it flips nothing, because a tolerance of 0 can be
    crossed there.

    In directions every strength is a candidate, numbered from 1. Neurons whose variance is at most
    the strength count as flipped: of what their update says for the class that is flipped most
    strongly about half is, or more, as a diagonal entry of an inverse is at least the inverse of
    the diagonal entry.

    Attributes:
        activation: ``(in,)`` float64, the statistic of every input neuron; in directions, its
            variance.
        order: ``(m,)`` indices of the neurons that may be flipped (activation >= 0), ascending.
        thresholds: ``(events,)`` float64, the smallest threshold that causes each event; in
            directions, the strengths, in units of the variance.
        n_flipped: ``(events,)`` int, ascending: how many neurons each event flips.
        grouped: Most distinct activation values that one event stands for; 1 if not grouped.
        by_strength: Whether the candidates are strengths.
    """

    activation: Array
    order: Array
    thresholds: Array
    n_flipped: Array
    grouped: int = 1
    by_strength: bool = False

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
            raise AllNegativeError(
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

    @classmethod
    def of_strengths(cls, variance: Array, strengths: Array) -> Schedule:
        """Build the schedule of flipping in directions.

        Args:
            variance: ``(in,)`` of every input neuron.
            strengths: ``(candidates,)`` ascending, in units of the variance.

        Example:
            >>> schedule = Schedule.of_strengths(np.array([0.3, 0.0, 0.2]), np.array([0.1, 0.2]))
            >>> list(schedule), schedule.flipped(2)
            ([(0.1, 1), (0.2, 2)], array([False,  True,  True]))
        """
        order = np.argsort(variance, kind="stable")
        n_flipped = np.searchsorted(variance[order], strengths, side="right")
        return cls(variance, order, strengths, n_flipped, by_strength=True)

    def __len__(self) -> int:
        return int(self.n_flipped.size)

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Yield each candidate as (threshold, number)."""
        numbers = range(1, len(self) + 1) if self.by_strength else self.n_flipped.tolist()
        return zip(self.thresholds.tolist(), numbers, strict=True)

    @property
    def most_tried(self) -> int:
        """Most candidates that a search tries.

        In directions it strides to where its losses suggest, halves what is left, and may need
        weaker ones for a promise; each takes about as many tries as the number has binary digits.
        """
        return 3 * len(self).bit_length() if self.by_strength else len(self)

    def neurons(self, number: int) -> int:
        """Return how many neurons a candidate flips, by its number; 0 is the model itself."""
        if self.by_strength:
            return int(self.n_flipped[number - 1]) if number else 0
        return number

    def flipped(self, number: int) -> Array:
        """``(in,)`` boolean: the neurons that a candidate flips."""
        mask = np.zeros(self.activation.size, dtype=bool)
        mask[self.order[: self.neurons(number)]] = True
        return mask

    def __repr__(self) -> str:
        return (
            f"Schedule({len(self)} events over {self.order.size} of {self.activation.size} neurons)"
        )


def _last_of_each(count: int, size: int) -> Array:
    """Indices of the last of each ``size`` consecutive items; the last group may be shorter.

    >>> _last_of_each(5, 2)
    array([1, 3, 4])
    """
    last: Array = np.minimum(np.arange(size - 1, count + size - 1, size), count - 1)
    return last
