"""Settings of the search, validated when they are built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from .activation import STATISTICS, Statistic
from .errors import SettingsError, nearest
from .network import Array

if TYPE_CHECKING:
    from fractions import Fraction

_MOST_THRESHOLDS = 10_000_000

Crossing = Literal["revert", "keep"]
DataSet = Literal["mnist", "emnist", "fmnist", "cifar10"]


@lru_cache(maxsize=64)
def as_fraction(number: float) -> Fraction:
    """Return the decimal that a float is written as: 0.1 is one tenth, not a binary fraction.

    >>> as_fraction(0.001) * 1000 == 1
    True
    """
    from fractions import Fraction

    return Fraction(repr(float(number)))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Evenly spaced thresholds ``start + i * step <= stop``, in units of the activation.

    Computed from the index, so no rounding error accumulates.

    Raises:
        SettingsError: A value is not finite, ``start`` is negative or beyond ``stop``, ``step`` is
            not positive, or there would be more than ten million thresholds.

    Example:
        >>> Grid(start=0.1, step=0.1, stop=0.3).thresholds()
        array([0.1, 0.2, 0.3])
    """

    start: float
    step: float
    stop: float

    def __post_init__(self) -> None:
        for name in ("start", "step", "stop"):
            # Plain floats, so that a report can hold them.
            object.__setattr__(self, name, _number(getattr(self, name), f"a Grid's {name}"))
        if not all(map(math.isfinite, self._values)):
            raise SettingsError(f"expected a grid of finite numbers; got {self}")
        if not 0 <= self.start <= self.stop or self.step <= 0:
            raise SettingsError(f"expected 0 <= start <= stop and step > 0; got {self}")
        if self._count > _MOST_THRESHOLDS:
            raise SettingsError(
                f"expected at most {_MOST_THRESHOLDS:,} thresholds; {self} has more"
            )

    @property
    def _values(self) -> tuple[float, float, float]:
        return self.start, self.step, self.stop

    @property
    def _count(self) -> int:
        start, step, stop = map(as_fraction, self._values)
        return int((stop - start) // step) + 1

    def __len__(self) -> int:
        return self._count

    def thresholds(self) -> Array:
        """``(len(grid),)`` float64, ascending."""
        ascending: Array = self.start + np.arange(len(self), dtype=np.float64) * self.step
        return ascending


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the search. The defaults are the same for every model and data set.

    Attributes:
        thresholds: None tries every distinct activation value, so that no scale has to be set by
            hand; a :class:`Grid` tries its values, as the published code does.
        tolerance: Allowed drop of the clean score, a fraction from 0 to 1: 0.01 is one point of
            accuracy. With several layers they share it.
        crossing: ``"revert"`` stops at the first candidate that loses more than the tolerance and
            returns the one before it. ``"keep"`` stops at the first that loses the tolerance or
            more and returns that one, as the published code does.
        statistic: What a threshold is compared with: ``"mean"`` activation (the paper's),
            ``"mean_abs"``, ``"rms"`` or ``"active_fraction"`` (share of values above zero).
        factor: A low neuron's weight becomes ``final - factor * (final - initial)``: 2 flips the
            update (the paper's), 1 resets it. Greater than 0, at most 2.
        match_norm: Rescale the purified weight to its former Frobenius norm, as the published code
            does. The search does not see this last step: its effect is not held to the tolerance.

    Raises:
        SettingsError: A value is out of range.

    Example:
        >>> Settings(tolerance=0.005, crossing="revert").tolerance
        0.005
    """

    thresholds: Grid | None = None
    tolerance: float = 0.002
    crossing: Crossing = "revert"
    statistic: Statistic = "mean"
    factor: float = 2.0
    match_norm: bool = False

    def __post_init__(self) -> None:
        if not (self.thresholds is None or isinstance(self.thresholds, Grid)):
            raise SettingsError(
                "expected thresholds to be None (every distinct activation value) or "
                f"flain.Grid(start=..., step=..., stop=...); got {self.thresholds!r}"
            )
        if not 0 <= _number(self.tolerance, "tolerance") <= 1:
            raise SettingsError(
                "expected a tolerance from 0 to 1, a fraction: 0.01 is one point of accuracy; "
                f"got {self.tolerance}"
            )
        if not 0 < _number(self.factor, "factor") <= 2:
            raise SettingsError(
                "expected a factor greater than 0 and at most 2 (2 flips the update, 1 resets it); "
                f"got {self.factor}"
            )
        for name in ("tolerance", "factor"):
            object.__setattr__(self, name, float(getattr(self, name)))
        one_of(self.crossing, ("revert", "keep"), "crossing")
        one_of(self.statistic, STATISTICS, "statistic")
        if not isinstance(self.match_norm, bool):
            raise SettingsError(f"expected match_norm to be True or False; got {self.match_norm!r}")

    @classmethod
    def published(cls, data_set: DataSet) -> Settings:
        """Return the published code's values for a data set.

        The chosen threshold, the flipped neurons and the weights are then those of the published
        procedure, which tries its thresholds one by one. With a tolerance of 0, as for ``"mnist"``,
        it ends as soon as the accuracy does not rise, often at the first threshold.

        Example:
            >>> Settings.published("cifar10").thresholds
            Grid(start=0.001, step=0.0001, stop=1.0)
        """
        one_of(data_set, tuple(_PUBLISHED), "the data set")
        start, step, tolerance = _PUBLISHED[data_set]
        grid = Grid(start=start, step=step, stop=1.0)
        return cls(thresholds=grid, tolerance=tolerance, crossing="keep", match_norm=True)

    def lost_too_much(self, lost: float, count: int) -> bool:
        """Return whether a loss of ``lost``, summed over ``count`` samples, crosses the tolerance.

        Exact: the tolerance counts as the decimal it was written as.

        Example:
            >>> Settings(tolerance=0.001).lost_too_much(1, 1000)
            False
            >>> Settings(tolerance=0.001, crossing="keep").lost_too_much(1, 1000)
            True
        """
        limit = _share(self.tolerance, count)
        return lost >= limit if self.crossing == "keep" else lost > limit


@lru_cache(maxsize=64)
def _share(tolerance: float, count: int) -> Fraction:
    return as_fraction(tolerance) * count


_PUBLISHED = {
    "mnist": (0.001, 0.001, 0.0),
    "emnist": (0.001, 0.001, 0.0),
    "fmnist": (0.0005, 0.0001, 0.024),
    "cifar10": (0.001, 0.0001, 0.001),
}


def settings_or_default(settings: Settings | None) -> Settings:
    """Return the settings, or the defaults for None; raise :class:`SettingsError` for others."""
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise SettingsError(
            "expected settings=flain.Settings(...), such as flain.Settings(tolerance=0.005) or "
            f'flain.Settings.published("mnist"); got {settings!r}'
        )
    return settings


def whole_number(value: int, what: str, *, least: int) -> int:
    """Return the value as an integer; raise :class:`SettingsError` if it is none or too small."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise SettingsError(
            f"expected {what} to be a whole number, at least {least}; got {value!r}"
        )
    return int(value)


def _number(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise SettingsError(f"expected {what} to be a number; got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise SettingsError(f"expected {what} to be a number that a float can hold") from error


def one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    """Raise :class:`SettingsError` unless the value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        choices = ", ".join(map(repr, allowed))
        raise SettingsError(f"expected {what} to be one of {choices}; got {value!r}.{hint}")
