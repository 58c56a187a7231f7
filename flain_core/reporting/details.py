"""Details for the reader of a report: who was right by class, norms of updates, places of inputs.

They decide nothing. They are measured after the search, and only small arrays are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from flain_core.in_memory.scorer import LocalScorer
from flain_core.network import Array, Layer, Network
from flain_core.outcome.layer import LayerOutcome, UpdateNorms
from flain_core.outcome.measurement import ClassOutcome
from flain_core.sample_source import Scorer
from flain_core.updates import norm, norm_by_neuron

from .input_grid import find_grid

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
    trained = layer.weight
    return UpdateNorms(
        initial=norm(initial),
        trained=norm(trained),
        purified=norm(purified),
        update=norm_by_neuron(initial, trained, layer.groups),
        change=norm_by_neuron(trained, purified, layer.groups),
    )


def by_class(scorer: Scorer) -> tuple[ClassOutcome, ...]:
    """Return how many samples of each class were right before and after; none if it is unknown.

    Args:
        scorer: What scored the candidates, and the purified model last of all.
    """
    if not isinstance(scorer, LocalScorer):
        return ()
    y, before, after = scorer.samples.clean.y, scorer.grader.trained, scorer.grader.latest
    if before is None or after is None:
        return ()
    return tuple(
        ClassOutcome(
            label=int(label),
            samples=int(np.count_nonzero(of_class)),
            right_before=int(np.count_nonzero(before.right & of_class)),
            right_after=int(np.count_nonzero(after.right & of_class)),
        )
        for label in np.unique(y)
        for of_class in (y == label,)
    )
