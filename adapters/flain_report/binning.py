"""Divides activations into bins, for a histogram and for its table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flain_core.network import Array

_BINS = 24
_WIDE = 100.0


@dataclass(frozen=True, eq=False)
class Bins:
    """Numbers of input neurons by activation.

    Attributes:
        edges: ``(bins + 1,)`` ascending.
        flipped: ``(bins,)`` how many of the flipped ones lie in each bin.
        kept: ``(bins,)`` how many of the others.
        silent: Numbers of neurons whose activation is exactly 0 and that a logarithmic axis cannot
            show: of flipped ones, of others.
        logarithmic: Whether the edges are evenly spaced on a logarithmic axis.
    """

    edges: Array
    flipped: Array
    kept: Array
    silent: tuple[int, int]
    logarithmic: bool


def bins_of(activation: Array, flipped: Array) -> Bins:
    """Return a histogram of activations.

    Args:
        activation: ``(in,)`` finite, at least one.
        flipped: ``(in,)`` boolean.

    Example:
        >>> bins = bins_of(np.array([0.0, 0.001, 1.0, 2.0]), np.array([True, True, False, False]))
        >>> bins.logarithmic, bins.silent, int(bins.flipped.sum()), int(bins.kept.sum())
        (True, (1, 0), 1, 2)
    """
    values = np.asarray(activation, dtype=np.float64)
    logarithmic = spans_orders(values)
    if logarithmic:
        low, high = positive_range(values)
        edges = np.geomspace(low, high, _BINS + 1)
        edges[0], edges[-1] = low, high
        shown = np.clip(values, low, high)
        of_axis = values > 0
        silent = int((~of_axis & flipped).sum()), int((~of_axis & ~flipped).sum())
    else:
        edges = np.histogram_bin_edges(values, _BINS)
        shown, of_axis, silent = values, np.ones(len(values), dtype=bool), (0, 0)
    return Bins(
        edges=edges,
        flipped=np.histogram(shown[of_axis & flipped], edges)[0],
        kept=np.histogram(shown[of_axis & ~flipped], edges)[0],
        silent=silent,
        logarithmic=logarithmic,
    )


def spans_orders(values: Array) -> bool:
    """Return whether values belong on a logarithmic axis: none negative, over several orders."""
    positive = values[values > 0]
    return bool(
        positive.size > 1
        and (values >= 0).all()
        and float(positive.max()) / _WIDE > float(positive.min())
    )


def positive_range(values: Array) -> tuple[float, float]:
    """Return the least and the greatest positive value that a logarithmic axis shows.

    Less than a billionth of the greatest is rounding, and would press the rest together.
    """
    positive = values[values > 0]
    high = float(positive.max())
    return max(float(positive.min()), 1e-9 * high), high
