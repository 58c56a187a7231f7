"""Windows that slide over images: what convolution and pooling have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

Pair: TypeAlias = int | tuple[int, int]
"""One number for both axes of an image, or one for its height and one for its width."""

Padding: TypeAlias = Pair | Literal["same"]
"""Pixels added on both sides, or ``"same"``: as many as make ``ceil(size / stride)`` positions."""


def pair(value: Any, name: str, *, least: int = 1) -> tuple[int, int]:
    """Return ``value`` as (height, width); ``name`` is what messages call it.

    >>> pair(3, "stride"), pair((3, 1), "stride")
    ((3, 3), (3, 1))
    """
    both = (value, value) if isinstance(value, int) else value
    match both:
        case [int(height), int(width)] if min(height, width) >= least:
            return height, width
        case _:
            raise ModelError(
                f"{name}: expected an integer of at least {least}, or a pair (height, width) of "
                f"them; got {value!r}"
            )


_PADDING_PER_PIXEL, _PADDING_BESIDES = 4, 64


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
        """Return how many places (H', W') the window takes in images of shape ``(n, C, H, W)``.

        >>> Window(size=(3, 3), stride=(2, 2), padding=(1, 1)).positions((1, 1, 28, 7))
        (14, 4)
        """
        (*_, height), (*_, width) = map(self._along, (0, 1), images[2:])
        return height, width

    def taps(self, images: Array, fill: float = 0.0) -> Iterator[Array]:
        """Yield what each pixel of the window sees of ``(n, C, H, W)``, each ``(n, C, H', W')``."""
        samples, channels, *shape = images.shape
        (top, bottom, height), (left, right, width) = map(self._along, (0, 1), shape)
        padded = images
        if top or bottom or left or right:
            high, wide = shape
            larger = (samples, channels, top + high + bottom, left + wide + right)
            padded = np.full(larger, fill, images.dtype)
            padded[:, :, top : top + high, left : left + wide] = images
        for row in range(self.size[0]):
            rows = self._slice(0, row, height)
            for column in range(self.size[1]):
                yield padded[:, :, rows, self._slice(1, column, width)]

    def _slice(self, axis: int, pixel: int, positions: int) -> slice:
        first, step = pixel * self.dilation[axis], self.stride[axis]
        return slice(first, first + (positions - 1) * step + 1, step)

    def _along(self, axis: int, extent: int) -> tuple[int, int, int]:
        """Return the padding before and after the image, and how many positions there are."""
        stride, reach = self.stride[axis], (self.size[axis] - 1) * self.dilation[axis] + 1
        if self.padding == "same":
            missing = max((extent - 1) // stride * stride + reach - extent, 0)
            before, after = missing // 2, missing - missing // 2
        else:
            before = after = self.padding[axis]
            if before > _PADDING_PER_PIXEL * extent + _PADDING_BESIDES:
                # Nobody trains that, and a few bytes in a file would ask for gigabytes.
                raise ValueError(
                    f"padding: expected at most {_PADDING_PER_PIXEL} times the {extent} pixels of "
                    f"axis {axis + 2}, and {_PADDING_BESIDES} more; got {before}"
                )
        padded = before + extent + after
        if padded < reach:
            raise ValueError(
                f"expected images of at least {reach} pixels with their padding along axis "
                f"{axis + 2}; got {padded}"
            )
        return before, after, (padded - reach) // stride + 1
