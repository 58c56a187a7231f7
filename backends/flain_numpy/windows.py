"""Windows that slide over images: what convolution and pooling have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

__all__ = ["Padding", "Pair", "Window", "pair"]

Pair: TypeAlias = int | tuple[int, int]
"""One number for both axes of an image, or one for its height and one for its width."""

Padding: TypeAlias = Pair | Literal["same"]
"""Pixels added on both sides, or ``"same"``: as many as make ``ceil(size / stride)`` positions."""


def pair(value: Any, name: str, *, least: int = 1) -> tuple[int, int]:
    """``value`` as (height, width); ``name`` appears in the error if it is not one.

    >>> pair(3, "stride"), pair((3, 1), "stride")
    ((3, 3), (3, 1))
    """
    both = (value, value) if isinstance(value, int) else value
    match both:
        case [int(height), int(width)] if min(height, width) >= least:
            return height, width
    raise ModelError(
        f"{name}: expected an integer of at least {least}, or a pair (height, width) of them, "
        f"given {value!r}"
    )


@dataclass(frozen=True)
class Window:
    """A window of ``size`` pixels that are ``dilation`` apart, moved by ``stride``.

    All four are (height, width), in pixels.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | Literal["same"]
    dilation: tuple[int, int] = (1, 1)

    def positions(self, images: tuple[int, ...]) -> tuple[int, int]:
        """How many places (H', W') the window takes in images of shape ``(n, C, H, W)``.

        >>> Window(size=(3, 3), stride=(2, 2), padding=(1, 1)).positions((1, 1, 28, 7))
        (14, 4)
        """
        height, width = (self._positions(axis, images[2 + axis]) for axis in (0, 1))
        return height, width

    def taps(self, images: Array, fill: float = 0.0) -> Iterator[Array]:
        """For each pixel of the window, row by row: what it sees, ``(n, C, H', W')``.

        Args:
            images: ``(n, C, H, W)``.
            fill: The value of the pixels that padding adds.
        """
        height, width = self.positions(images.shape)
        padded = self._padded(images, fill)
        for row in range(self.size[0]):
            for column in range(self.size[1]):
                rows = self._slice(0, row, height)
                columns = self._slice(1, column, width)
                yield padded[:, :, rows, columns]

    def _slice(self, axis: int, pixel: int, positions: int) -> slice:
        first, step = pixel * self.dilation[axis], self.stride[axis]
        return slice(first, first + (positions - 1) * step + 1, step)

    def _reach(self, axis: int) -> int:
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def _margins(self, axis: int, extent: int) -> tuple[int, int]:
        if self.padding != "same":
            return self.padding[axis], self.padding[axis]
        stride = self.stride[axis]
        last = (extent - 1) // stride * stride
        missing = max(last + self._reach(axis) - extent, 0)
        return missing // 2, missing - missing // 2

    def _positions(self, axis: int, extent: int) -> int:
        padded = extent + sum(self._margins(axis, extent))
        if padded < self._reach(axis):
            raise ValueError(
                f"expected images of at least {self._reach(0)}×{self._reach(1)} pixels with their "
                f"padding, given {padded} along axis {axis + 2}"
            )
        return (padded - self._reach(axis)) // self.stride[axis] + 1

    def _padded(self, images: Array, fill: float) -> Array:
        samples, channels, height, width = images.shape
        top, bottom = self._margins(0, height)
        left, right = self._margins(1, width)
        if not (top or bottom or left or right):
            return images
        shape = (samples, channels, top + height + bottom, left + width + right)
        padded = np.full(shape, fill, images.dtype)
        padded[:, :, top : top + height, left : left + width] = images
        return padded
