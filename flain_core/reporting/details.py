"""Details for the reader of a report: who was right by class, norms of updates, places of inputs.

They decide nothing. They are measured after the search, and only small arrays are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from flain_core.in_memory.scorer import LocalScorer
from flain_core.network import Array, Layer, Network
from flain_core.outcome import ClassOutcome, LayerOutcome, UpdateNorms
from flain_core.sample_source import Scorer

from .input_grid import find_grid

__all__ = ["by_class", "with_details"]

_SAMPLES_FOR_PLACES = 16


def with_details(
    outcomes: tuple[LayerOutcome, ...],
    trained: Network,
    initial: Mapping[str, Array],
    purified: Network,
    scorer: Scorer,
) -> Iterator[LayerOutcome]:
    """Yield the outcomes with the norms of the updates and, where that shows, the inputs' places.

    Args:
        outcomes: What was done to each layer.
        trained: The trained model.
        initial: The initial weights by name of layer.
        purified: The purified model.
        scorer: What scored the candidates.
    """
    layers, after = trained.layers(), purified.layers()
    few = scorer.samples.clean[:_SAMPLES_FOR_PLACES].x if isinstance(scorer, LocalScorer) else None
    for outcome in outcomes:
        layer = layers[outcome.name]
        yield replace(
            outcome,
            norms=norms(layer, initial[layer.name], after[layer.name].weight),
            grid=None if few is None else find_grid(trained, layer, few),
        )


def norms(layer: Layer, initial: Array, purified: Array) -> UpdateNorms:
    """Measure what training changed in a layer, and what purifying changed.

    Args:
        layer: The trained layer.
        initial: ``(out, in / groups, *kernel)`` its weight before training.
        purified: The same shape, its weight afterwards.
    """
    start, end = initial.astype(np.float64), layer.weight.astype(np.float64)
    return UpdateNorms(
        initial=_norm(start),
        trained=_norm(end),
        purified=_norm(purified.astype(np.float64)),
        update=_by_neuron(end - start, layer.groups),
        change=_by_neuron(purified - end, layer.groups),
    )


def by_class(scorer: Scorer) -> tuple[ClassOutcome, ...]:
    """Return how many samples of each class were right before and after; none if it is unknown.

    Args:
        scorer: What scored the candidates, and the purified model last of all.
    """
    grader = scorer.grader if isinstance(scorer, LocalScorer) else None
    if grader is None or grader.trained is None or grader.latest is None:
        return ()
    y = scorer.samples.clean.y if isinstance(scorer, LocalScorer) else np.zeros(0)
    before, after = grader.trained.right, grader.latest.right
    return tuple(
        ClassOutcome(
            label=int(label),
            samples=int(np.count_nonzero(of_class)),
            right_before=int(np.count_nonzero(before & of_class)),
            right_after=int(np.count_nonzero(after & of_class)),
        )
        for label in np.unique(y)
        for of_class in (y == label,)
    )


def _norm(weight: Array) -> float:
    # Scaled, as the square of a weight may be too small or too large for a float64.
    scale = float(np.abs(weight).max(initial=0.0))
    return scale and scale * float(np.sqrt(np.square(weight / scale).sum()))


def _by_neuron(change: Array, groups: int) -> Array:
    """Return ``(in,)`` the norm of what each input neuron's weights changed by."""
    scale = float(np.abs(change).max(initial=0.0)) or 1.0
    by_group = np.square(change / scale).reshape(groups, len(change) // groups, change.shape[1], -1)
    by_neuron: Array = scale * np.sqrt(by_group.sum(axis=(1, 3)).ravel())
    return by_neuron
