"""The samples that a defence gets: drawn at random from images that no client trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .data import DataSet, Images
from .rows import Cell, Row
from .triggers import Pixels, trigger

POISONED_SHARE = 0.05


def drawn(
    row: Row, cell: Cell, whole: DataSet
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Inputs float32 ``(n, channels, side, side)`` and classes ``(n,)`` for a cell.

    A smaller draw is the beginning of a larger one. ``poisoned`` puts the row's trigger and the
    label that it is to get on 5 % of the images, as one attacker among those who gather them would.

    Raises:
        KeyError: No such kind of samples.
        ValueError: The pool is smaller than the cell wants.
    """
    pool = whole.auxiliary
    if cell.samples > len(pool):
        raise ValueError(f"expected at most {len(pool)} auxiliary samples; got {cell.samples}")
    order = np.random.default_rng((row.seed, cell.draw, 11)).permutation(len(pool))
    picked = pool.take(order[: cell.samples])
    if cell.kind == "poisoned":
        picked = _poisoned(row, picked)
    elif cell.kind != "clean":
        picked = Images(SHIFTS[cell.kind](picked.pixels), picked.labels)
    return whole.inputs(picked.pixels), picked.labels


def _poisoned(row: Row, picked: Images) -> Images:
    side, channels = picked.pixels.shape[-1], picked.pixels.shape[1]
    wanted = row.wanted(picked.labels)
    eligible = np.flatnonzero(picked.labels != wanted)
    marked = eligible[: round(POISONED_SHARE * len(picked))]
    pixels, labels = picked.pixels.copy(), picked.labels.copy()
    pixels[marked] = trigger(row.trigger, side, channels).stamp(pixels[marked])
    labels[marked] = wanted[marked]
    return Images(pixels, labels)


def _inverted(pixels: Pixels) -> Pixels:
    return 255 - pixels


def _brighter(pixels: Pixels) -> Pixels:
    return np.minimum(pixels.astype(np.int64) + 64, 255).astype(np.uint8)


def _noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(42).normal(0, 40, pixels.shape)
    return np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)


# Samples from elsewhere: 64 of 255 brighter, Gaussian noise of 40 of 255, black for white.
SHIFTS: dict[str, Callable[[Pixels], Pixels]] = {
    "brighter": _brighter,
    "noisy": _noisy,
    "inverted": _inverted,
}
