"""Shortens a question about a purified model: names the candidate by its number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flain_core.flipping_order import FlippingOrder
from flain_core.network import Array, Network

from .messages import ModelState, Question

__all__ = ["by_number"]


def by_number(question: Question, searched: ModelState | None, trained: Network) -> Question:
    """Return the question, by number if it is about a candidate of the last search.

    The weight of a candidate follows from the initial weight, which a holder that was asked about
    the search has. The question stays as it is where the weights are not those of a candidate to
    the bit, for instance because their norm was restored.

    Args:
        question: About any network that was made of the trained one.
        searched: The last search; None before the first.
        trained: The trained model.
    """
    asked = question.state
    if question.task != "in full" or question.n_flipped or searched is None:
        return question
    if searched.initial is None or searched.layer not in asked.weights:
        return question
    others = {name: each for name, each in asked.weights.items() if name != searched.layer}
    before = {name: each for name, each in searched.weights.items() if name != searched.layer}
    if others.keys() != before.keys() or any(
        not np.array_equal(each, before[name]) for name, each in others.items()
    ):
        return question
    network = trained.replace(searched.weights) if searched.weights else trained
    layer = network.layers()[searched.layer]
    flipping = FlippingOrder(network, layer, searched.initial, searched.factor, searched.order)
    n_flipped = _last_that_differs(asked.weights[layer.name], flipping)
    weight = flipping.candidate(n_flipped).layers()[layer.name].weight
    if not np.array_equal(weight, asked.weights[layer.name]):
        return question
    return replace(question, state=searched, n_flipped=(n_flipped,))


def _last_that_differs(weight: Array, flipping: FlippingOrder) -> int:
    """Return up to which place of the order a weight differs from the layer's."""
    layer = flipping.layer
    if layer.groups > 1:
        return 0  # there an input neuron is no column, so the question goes out as it is
    places = tuple(axis for axis in range(weight.ndim) if axis != 1)
    differs = (weight != layer.weight).any(axis=places)
    flipped = np.flatnonzero(differs[flipping.order])
    return int(flipped[-1]) + 1 if flipped.size else 0
