"""Operations between the layers: activations, batch normalization, pooling, flattening."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

from ._arrays import frozen
from ._windows import Pair, Window, pair
from .erf import erf


@dataclass(frozen=True, eq=False)
class ReLU:
    """``max(x, 0)``.

    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def __call__(self, x: Array) -> Array:
        return np.maximum(x, 0)


@dataclass(frozen=True, eq=False)
class GELU:
    """``x · Φ(x)``, the Gaussian error linear unit.

    Attributes:
        approximate: Use the tanh form of Hendrycks and Gimpel (2016) instead of the exact one.

    >>> GELU()(np.array([-1.0, 2.0])).round(4)
    array([-0.1587,  1.9545])
    >>> GELU(approximate=True)(np.array([-1.0, 2.0])).round(4)
    array([-0.1588,  1.9546])
    """

    approximate: bool = False

    def __call__(self, x: Array) -> Array:
        if self.approximate:
            twice_phi = 1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        else:
            twice_phi = 1 + erf(x / math.sqrt(2))
        result: Array = 0.5 * x * twice_phi
        return result


@dataclass(frozen=True, eq=False)
class Tanh:
    """``tanh(x)``.

    >>> Tanh()(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    """

    def __call__(self, x: Array) -> Array:
        return np.tanh(x)


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """``1 / (1 + exp(−x))``.

    >>> Sigmoid()(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([0.    , 0.5   , 0.7311])
    """

    def __call__(self, x: Array) -> Array:
        # The exponent is never positive, so large inputs of either sign cannot overflow.
        decay = np.exp(-np.abs(x))
        result: Array = np.where(x < 0, decay, 1) / (1 + decay)
        return result


@dataclass(frozen=True, eq=False)
class Softmax:
    """Turns scores into probabilities along one axis.

    Attributes:
        axis: The axis of the classes.

    >>> Softmax()(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """

    axis: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int):
            raise ModelError(f"axis: expected an integer; got {self.axis!r}")

    def __call__(self, x: Array) -> Array:
        powers: Array = np.exp(x - x.max(axis=self.axis, keepdims=True))
        powers /= powers.sum(axis=self.axis, keepdims=True)
        return powers


@dataclass(frozen=True, eq=False, repr=False)
class BatchNorm:
    """``(x − mean) / sqrt(variance + epsilon) · scale + shift`` per channel, ``(n, C, ...)``.

    Attributes:
        mean: ``(C,)``, the running mean.
        variance: ``(C,)``, the running variance.
        scale: ``(C,)``, or None for 1.
        shift: ``(C,)``, or None for 0.
        epsilon: Added to the variance.

    >>> norm = BatchNorm(np.array([1.0, 0.0]), np.array([4.0, 1.0]), epsilon=0.0)
    >>> norm(np.array([[3.0, 5.0]]))
    array([[1., 5.]])
    """

    mean: Array
    variance: Array
    scale: Array | None = None
    shift: Array | None = None
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "scale", "shift"):
            values = getattr(self, name)
            if values is not None or name in ("mean", "variance"):
                values = frozen(values)
                object.__setattr__(self, name, values)
                if values.ndim != 1 or values.shape != self.mean.shape:
                    channels = self.mean.shape if self.mean.ndim == 1 else "(C,)"
                    raise ModelError(
                        f"{name} of a BatchNorm: expected shape {channels}; got {values.shape}"
                    )
        if not isinstance(self.epsilon, (int, float)) or not 0 <= self.epsilon < math.inf:
            raise ModelError(f"epsilon: expected a number of at least 0; got {self.epsilon!r}")

    def __repr__(self) -> str:
        return f"BatchNorm({self.mean.size} channels)"

    def __call__(self, x: Array) -> Array:
        if x.ndim < 2 or x.shape[1] != self.mean.size:
            raise ValueError(f"expected (n, {self.mean.size}, ...); got {x.shape}")
        factor = 1 / np.sqrt(self.variance + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale
        offset = -self.mean * factor
        if self.shift is not None:
            offset = offset + self.shift
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        result: Array = x * factor.reshape(per_channel) + offset.reshape(per_channel)
        return result


@dataclass(frozen=True, eq=False)
class _Pool2d:
    """A pooling that goes over one axis after the other, which takes fewer passes."""

    size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    _windows: tuple[Window, Window] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        height, width = pair(self.size, "size")
        down, right = (height, width) if self.stride is None else pair(self.stride, "stride")
        top, left = pair(self.padding, "padding", least=0)
        if top > height // 2 or left > width // 2:
            raise ModelError(
                f"padding: expected at most half the window {self.size}; got {self.padding}"
            )
        rows = Window((height, 1), (down, 1), (top, 0))
        columns = Window((1, width), (1, right), (0, left))
        object.__setattr__(self, "_windows", (rows, columns))


class MaxPool2d(_Pool2d):
    """The largest value of each window, ``(n, C, H, W)`` to ``(n, C, H', W')``.

    Attributes:
        size: The window, in pixels: one number, or (height, width).
        stride: How far the window moves, in pixels; None for its own size.
        padding: Pixels added on both sides, at most half the window. They never win.

    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """

    def __call__(self, x: Array) -> Array:
        _check_images(x)
        for window in self._windows:
            x = reduce(np.maximum, window.taps(x, fill=-math.inf))
        return x


class AvgPool2d(_Pool2d):
    """The mean of each window, ``(n, C, H, W)`` to ``(n, C, H', W')``.

    Attributes:
        size: The window, in pixels: one number, or (height, width).
        stride: How far the window moves, in pixels; None for its own size.
        padding: Pixels added on both sides, at most half the window. They count as zeros.

    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """

    def __call__(self, x: Array) -> Array:
        _check_images(x)
        for window in self._windows:
            x = reduce(np.add, window.taps(x)) / math.prod(window.size)
        return x


@dataclass(frozen=True, eq=False)
class GlobalAvgPool2d:
    """The mean of each channel, ``(n, C, H, W)`` to ``(n, C)``.

    >>> GlobalAvgPool2d()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    def __call__(self, x: Array) -> Array:
        _check_images(x)
        return np.asarray(x.mean(axis=(2, 3)))


@dataclass(frozen=True, eq=False)
class Flatten:
    """One row per sample, ``(n, ...)`` to ``(n, features)``.

    >>> Flatten()(np.zeros((5, 2, 3, 4))).shape
    (5, 24)
    """

    def __call__(self, x: Array) -> Array:
        return x.reshape(len(x), math.prod(x.shape[1:]))


def _check_images(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"expected images (n, C, H, W); got {x.shape}")
