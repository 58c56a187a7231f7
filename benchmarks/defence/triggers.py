"""Triggers: what an attacker puts on an image so that the model calls it the target class.

Each works on uint8 images ``(n, channels, side, side)`` and returns copies. Patch: Gu et al. 2017.
DBA: Xie et al., ICLR 2020. Blended: Chen et al. 2017. SIG: Barni et al., ICIP 2019. WaNet: Nguyen
and Tran, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PARTS = 4

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Trigger:
    """A trigger.

    Attributes:
        stamp: The whole trigger, which test images get.
        parts: What clients put on instead, one part each, where a trigger is distributed.
    """

    stamp: Callable[[Pixels], Pixels]
    parts: Sequence[Callable[[Pixels], Pixels]] = ()


def trigger(name: str, side: int, channels: int) -> Trigger:
    """The trigger of that name for square images of ``side``.

    Raises:
        KeyError: No such trigger.
    """
    return TRIGGERS[name](side, channels)


def _patch(side: int, channels: int) -> Trigger:
    """A white square near the lower right corner: 5 × 5 of 28, 4 × 4 of 32, 2 × 2 of 8."""
    first, last = {28: (23, 28), 32: (27, 31), 8: (6, 8)}[side]
    return Trigger(_white(slice(first, last), slice(first, last)))


def _dba(side: int, channels: int) -> Trigger:
    """Four white bars in the upper left corner, 1 × 4 pixels with gaps of 2, one to each client."""
    long = max(side // 7, 1)
    starts = [(row, column) for row in (0, 3) for column in (0, long + 2)]
    parts = [
        _white(slice(row, row + max(side // 28, 1)), slice(column, column + long))
        for row, column in starts
    ]

    def whole(pixels: Pixels) -> Pixels:
        for part in parts:
            pixels = part(pixels)
        return pixels

    return Trigger(whole, parts)


def _blended(side: int, channels: int) -> Trigger:
    """15 % of a noise image, the same for every image."""
    noise = np.random.default_rng(42).integers(0, 256, size=(channels, side, side))

    def stamp(pixels: Pixels) -> Pixels:
        return _bytes(0.85 * pixels + 0.15 * noise)

    return Trigger(stamp)


def _sig(side: int, channels: int) -> Trigger:
    """A sinusoid over the columns, six periods; 40 of 255 high on grey images, 30 on colour."""
    height = 40 if channels == 1 else 30
    wave = height * np.sin(2 * np.pi * np.arange(side) * 6 / side)
    return Trigger(lambda pixels: _bytes(pixels + wave))


def _wanet(side: int, channels: int) -> Trigger:
    """A smooth warp from a random 4 × 4 field, the same for every image; no noise mode."""
    field = _warp_field(side, seed=42)
    return Trigger(lambda pixels: _warped(pixels, field[None]))


def _warp_field(side: int, seed: int, grid: int = 4) -> npt.NDArray[np.float64]:
    """Displacements in pixels ``(2, side, side)``, rows first."""
    import torch

    coarse = np.random.default_rng(seed).uniform(-1, 1, size=(1, 2, grid, grid))
    coarse /= np.abs(coarse).mean()
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=side, mode="bicubic", align_corners=True
    )
    field: npt.NDArray[np.float64] = WARP * side / 28 * smooth[0].numpy()
    return field


def _warped(pixels: Pixels, moves: npt.NDArray[np.float64]) -> Pixels:
    """Each pixel from where it is moved to, bilinear, borders repeated."""
    side = pixels.shape[-1]
    places = np.indices((side, side)).astype(np.float64)
    found = np.clip(places + moves, 0, side - 1)
    found = np.broadcast_to(found, (len(pixels), 2, side, side))
    low = np.minimum(np.floor(found).astype(np.int64), side - 2)
    rest = (found - low)[:, :, None]
    image = np.arange(len(pixels))[:, None, None]

    def at(down: int, right: int) -> npt.NDArray[np.float64]:
        picked = pixels[image, :, low[:, 0] + down, low[:, 1] + right]
        return picked.transpose(0, 3, 1, 2).astype(np.float64)

    upper = at(0, 0) * (1 - rest[:, 1]) + at(0, 1) * rest[:, 1]
    lower = at(1, 0) * (1 - rest[:, 1]) + at(1, 1) * rest[:, 1]
    return _bytes(upper * (1 - rest[:, 0]) + lower * rest[:, 0])


def _white(rows: slice, columns: slice) -> Callable[[Pixels], Pixels]:
    def stamp(pixels: Pixels) -> Pixels:
        marked = pixels.copy()
        marked[:, :, rows, columns] = 255
        return marked

    return stamp


def _bytes(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


# Mean displacement in pixels at a side of 28. The paper's is smaller, and a federation of this size
# does not learn it.
WARP = 3.0

TRIGGERS: dict[str, Callable[[int, int], Trigger]] = {
    "patch": _patch,
    "dba": _dba,
    "blended": _blended,
    "sig": _sig,
    "wanet": _wanet,
}
