"""Operations that shrink images to fewer numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

from .windows import Pair, Window, pair


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
        """Map images ``(n, C, H, W)`` to ``(n, C, H', W')``."""
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
        """Map images ``(n, C, H, W)`` to ``(n, C, H', W')``."""
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
        """Map images ``(n, C, H, W)`` to ``(n, C)``."""
        _check_images(x)
        return np.asarray(x.mean(axis=(2, 3)))


@dataclass(frozen=True, eq=False)
class Flatten:
    """One row per sample, ``(n, ...)`` to ``(n, features)``.

    >>> Flatten()(np.zeros((5, 2, 3, 4))).shape
    (5, 24)
    """

    def __call__(self, x: Array) -> Array:
        """Map ``(n, ...)`` to ``(n, features)``."""
        return x.reshape(len(x), math.prod(x.shape[1:]))


def _check_images(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"expected images (n, C, H, W); got {x.shape}")
