"""Statistics of how strongly clean data activates each input neuron; they stream and merge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from .errors import DataError
from .network import Array

Statistic = Literal["mean", "mean_abs", "rms", "active_fraction"]

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
"""The statistics a threshold can be compared with."""

SUMS = ("total", "total_abs", "total_square", "active")
"""Names of the sums from which they follow; all but the last are float64."""


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """Sums over samples and positions, from which every statistic follows. Immutable.

    An empty one is the neutral element: ``update`` and ``merge`` return new ones, and any order and
    any split of the data gives the same statistics up to the rounding of float64 sums. The mean is
    the paper's; the others are for layers that do not follow a ReLU.

    Attributes:
        count: Values seen per input neuron: samples times positions.
        total: ``(in,)`` float64 sum of the values.
        total_abs: ``(in,)`` float64 sum of the absolute values.
        total_square: ``(in,)`` float64 sum of the squares.
        active: ``(in,)`` int64, how many values were greater than zero.

    Example:
        >>> first = ActivationStatistics().update(np.array([[0.0, 1.0], [0.0, 3.0]]))
        >>> second = ActivationStatistics().update(np.array([[3.0, -1.0]]))
        >>> first.merge(second).mean
        array([1., 1.])
        >>> first.merge(second).active_fraction.round(2)
        array([0.33, 0.67])
    """

    count: int = 0
    total: Array = field(default_factory=lambda: np.zeros(0))
    total_abs: Array = field(default_factory=lambda: np.zeros(0))
    total_square: Array = field(default_factory=lambda: np.zeros(0))
    active: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def update(self, inputs: Array) -> ActivationStatistics:
        """Add a batch of layer inputs.

        Args:
            inputs: ``(n, in, *positions)``, floating point.

        Raises:
            DataError: The shape does not fit what was seen before, or a value is NaN or infinite.
        """
        inputs = np.asarray(inputs)
        if inputs.ndim < 2:
            raise DataError(
                f"expected layer inputs of shape (n, in, *positions); got {inputs.shape}"
            )
        axes = (0, *range(2, inputs.ndim))
        total = inputs.sum(axis=axes, dtype=np.float64)
        if not np.isfinite(total).all():
            raise DataError(
                "the layer's inputs hold NaN or infinity; check the data and the weights before it"
            )
        magnitude = np.abs(inputs)
        seen = ActivationStatistics(
            count=inputs.size // max(inputs.shape[1], 1),
            total=total,
            total_abs=magnitude.sum(axis=axes, dtype=np.float64),
            total_square=np.square(magnitude, dtype=np.float64).sum(axis=axes),
            active=(inputs > 0).sum(axis=axes, dtype=np.int64),
        )
        return self.merge(seen)

    def merge(self, other: ActivationStatistics) -> ActivationStatistics:
        """Return the statistics of both data sets together.

        Args:
            other: Statistics of a layer of the same width.

        Raises:
            DataError: The two are of layers of different width.
        """
        if not self.count:
            return other
        if not other.count:
            return self
        if self.total.shape != other.total.shape:
            raise DataError(
                "cannot merge statistics of layers of different width: "
                f"{self.total.size} and {other.total.size} input neurons"
            )
        return ActivationStatistics(
            count=self.count + other.count,
            total=self.total + other.total,
            total_abs=self.total_abs + other.total_abs,
            total_square=self.total_square + other.total_square,
            active=self.active + other.active,
        )

    @property
    def mean(self) -> Array:
        """``(in,)`` mean activation: the paper's statistic."""
        return self._per_value(self.total)

    @property
    def mean_abs(self) -> Array:
        """``(in,)`` mean absolute activation; equal to the mean behind a ReLU."""
        return self._per_value(self.total_abs)

    @property
    def rms(self) -> Array:
        """``(in,)`` root of the mean square activation."""
        return np.sqrt(self._per_value(self.total_square))

    @property
    def active_fraction(self) -> Array:
        """``(in,)`` share of values greater than zero, from 0 to 1."""
        return self._per_value(self.active)

    def _per_value(self, total: Array) -> Array:
        if not self.count:
            raise DataError("no activations were seen yet; call update with at least one sample")
        per_value: Array = total / self.count
        return per_value

    def __repr__(self) -> str:
        return f"ActivationStatistics({self.total.size} input neurons, {self.count} values each)"
