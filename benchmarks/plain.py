"""The published procedure, carried out literally: every threshold is a full run of the network.

It is slow; tests and benchmarks compare the search with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PlainResult:
    """The point where the procedure stopped.

    Attributes:
        threshold: The chosen threshold; None if the accuracy never dropped far enough.
        flipped: ``(in,)`` boolean.
        weight: ``(out, in, *kernel)``, not rescaled.
        accuracies: The accuracy at every threshold tried, from 0 to 1.
    """

    threshold: float | None
    flipped: Array
    weight: Array
    accuracies: tuple[float, ...]


def plain_reevaluation(
    initial: Array,
    final: Array,
    activation: Array,
    run: Callable[[Array], Array],
    y: Array,
    *,
    thresholds: Iterable[float],
    tolerance: float,
) -> PlainResult:
    """Flip, run the whole network, compare; stop at the first threshold that loses ``tolerance``.

    Args:
        initial: ``(out, in, *kernel)``, one group.
        final: The same shape.
        activation: ``(in,)`` mean activation.
        run: Returns the scores ``(n, classes)`` of the whole network under a weight.
        y: ``(n,)`` class indices.
        thresholds: Ascending.
        tolerance: Drop of accuracy that stops the procedure; above 1 it never stops.
    """
    update = final - initial
    before = _right(run(final), y)
    accuracies = []
    flipped, weight = np.zeros(activation.size, dtype=bool), final
    for threshold in thresholds:
        flipped = (activation >= 0) & (activation <= threshold)
        column = flipped.reshape(1, -1, *[1] * (final.ndim - 2))
        weight = np.where(column, initial - update, initial + update).astype(final.dtype)
        right = _right(run(weight), y)
        accuracies.append(right / len(y))
        if round((before - right) / len(y), 12) >= tolerance:
            return PlainResult(float(threshold), flipped, weight, tuple(accuracies))
    return PlainResult(None, flipped, weight, tuple(accuracies))


def _right(scores: Array, y: Array) -> int:
    return int((scores.argmax(axis=1) == y).sum())
