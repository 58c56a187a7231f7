"""Sizes of what training added to a weight, and of what purifying changed, in double precision.

Squares are taken of numbers that were scaled: those of a weight may leave the range of a float64.
"""

from __future__ import annotations

import math

import numpy as np

from .blocks import largest_of, row_blocks
from .network import Array


def difference(one: Array, other: Array, block: slice | tuple[slice, slice]) -> Array:
    """Return by how much a part of one weight exceeds that of another, as float64."""
    exceeding: Array = np.subtract(one[block], other[block], dtype=np.float64)
    return exceeding


def norm(weight: Array) -> float:
    """Return the Frobenius norm of a weight.

    >>> norm(np.array([[3.0, 4.0]])), norm(np.array([[3.0, 4.0]]) * 2.0**900) / 2.0**900
    (5.0, 5.0)
    """
    scale = _power_of_two(largest_of(weight))
    blocks = (weight[rows].astype(np.float64) / scale for rows in row_blocks(weight))
    return scale * math.sqrt(sum(float(np.square(each).sum()) for each in blocks))


def norm_by_neuron(start: Array, end: Array, groups: int) -> Array:
    """Return ``(in,)`` the norm of what each input neuron's weights changed by.

    Args:
        start: ``(out, in / groups, *kernel)``.
        end: The same shape.
        groups: Groups of a convolution; 1 for a dense layer.
    """
    scale = _largest_difference(start, end)
    squares = np.zeros((groups, end.shape[1]))
    for rows in row_blocks(end):
        of_row = np.square(difference(end, start, rows) / scale)
        of_row = of_row.reshape(*of_row.shape[:2], -1).sum(axis=2)
        group = np.arange(rows.start, rows.stop) // (len(end) // groups)
        for each in np.unique(group):
            squares[each] += of_row[group == each].sum(axis=0)
    by_neuron: Array = scale * np.sqrt(squares.ravel())
    return by_neuron


def greatest_by_output(start: Array, end: Array) -> Array:
    """Return ``(out,)`` the greatest magnitude of what each output's weights changed by."""
    return np.concatenate(
        [np.abs(difference(end, start, rows)).max(axis=1) for rows in row_blocks(end)]
    )


def shares_flipped(
    initial: Array, trained: Array, purified: Array, factor: float, along: Array | None = None
) -> tuple[float, float | None]:
    """Return which shares of an update were flipped.

    Args:
        initial: ``(out, in / groups, *kernel)``.
        trained: The same shape.
        purified: The same shape.
        factor: What a flipped update was multiplied by before it was taken off.
        along: ``(out,)`` in which direction of the outputs the update was flipped most strongly.

    Returns:
        As :class:`~flain_core.LayerOutcome` has them: ``share``; and ``class_share``, None without
        a direction.
    """
    scale = _largest_difference(initial, trained)
    sizes, of_class = np.zeros(2), np.zeros((2, trained[0].size))
    for rows in row_blocks(trained):
        update, change = (difference(trained, other, rows) / scale for other in (initial, purified))
        update *= factor
        sizes += np.square(update).sum(), np.square(change).sum()
        if along is not None:
            of_class += along[rows] @ update, along[rows] @ change
    tiny = np.finfo(float).tiny
    share = float(sizes[1] / max(sizes[0], tiny))
    if along is None:
        return share, None
    whole, flipped = np.square(of_class).sum(axis=1)
    return share, float(flipped / max(whole, tiny))


def _largest_difference(start: Array, end: Array) -> float:
    """Return the largest magnitude of what a weight changed by; 1 where nothing changed."""
    blocks = (largest_of(difference(end, start, rows)) for rows in row_blocks(end))
    return max(blocks, default=0.0) or 1.0


def _power_of_two(size: float) -> float:
    """Return one of about that size, so that nothing is rounded when numbers are divided by it."""
    return math.ldexp(1.0, math.frexp(size)[1] - 1)
