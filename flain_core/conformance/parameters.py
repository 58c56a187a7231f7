"""Other weights and biases for the layers of a network, and checks that it has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flain_core.flipping import columns
from flain_core.network import Array, Layer, Network

from .expect import expect, expect_same
from .networks import Conv, Dense, Reference


def changed_weight(layer: Layer, neurons: Array) -> tuple[Array, Array]:
    """Return a weight that differs from the layer's at some neurons, and what was taken away."""
    weight = wide(layer.weight)
    random = np.random.default_rng(2)
    update = random.standard_normal(weight.shape) * np.abs(weight).max()
    chosen = columns(neurons, weight.shape, layer.groups)
    changed = np.where(chosen, weight - update, weight).astype(layer.weight.dtype)
    # The change has values everywhere: that other neurons are left out is what linear is for.
    change = np.where(chosen, weight - wide(changed), update).astype(weight.dtype)
    return changed, change


def other_weights(network: Network) -> dict[str, Array]:
    """Return a weight of each layer that differs from its own at all neurons."""
    layers = network.layers().items()
    return {name: changed_weight(layer, np.arange(layer.neurons))[0] for name, layer in layers}


def other_biases(network: Network) -> dict[str, Array]:
    """Return biases that differ from the network's own in every number."""
    random = np.random.default_rng(3)
    shown = shown_biases(network)
    moves = {name: random.uniform(0.5, 1.5, bias.shape) for name, bias in shown.items()}
    return {name: np.array(bias + moves[name], bias.dtype) for name, bias in shown.items()}


def with_arrays(
    reference: Reference,
    network: Network,
    weights: Mapping[str, Array],
    biases: Mapping[str, Array],
) -> Reference:
    """Replace weights and biases of a reference, by the names that a network's layers have."""
    names = {layer.name: truth.name for layer, truth in layer_pairs(network, reference)}
    return reference.replace(
        {names[name]: weight for name, weight in weights.items()},
        {names[name]: bias for name, bias in biases.items()},
    )


def shown_biases(network: Network) -> dict[str, Array]:
    """Return the biases that can be replaced."""
    layers = network.layers().items()
    return {name: layer.bias for name, layer in layers if layer.bias is not None}


def copied_weights(network: Network) -> dict[str, Array]:
    """Copy the weight of each layer."""
    return {name: layer.weight.copy() for name, layer in network.layers().items()}


def layer_pairs(network: Network, reference: Reference) -> list[tuple[Layer, Dense | Conv]]:
    """Pair the layers of a network with those of its reference."""
    layers, truths = list(network.layers().values()), list(reference.layers().values())
    expect(len(layers) == len(truths), f"{len(truths)} layers", layers)
    return list(zip(layers, truths, strict=True))


def expect_weights(network: Network, weights: Mapping[str, Array], what: str) -> None:
    """Require that layers have exactly these weights."""
    for name, weight in weights.items():
        expect_same(network.layers()[name].weight, weight, f"the weight of {name!r} {what}")


def expect_biases(network: Network, reference: Reference, what: str) -> None:
    """Require exactly the biases of the reference, and none where it has none."""
    for layer, truth in layer_pairs(network, reference):
        what_of = f"the bias of {layer.name!r} {what}"
        if layer.bias is None or truth.bias is None:
            wanted, given = ("none" if b is None else "one" for b in (truth.bias, layer.bias))
            expect(given == wanted, f"{what_of} to be {wanted}", given)
        else:
            expect_same(layer.bias, truth.bias, what_of)


def wide(weight: Array) -> Array:
    """Convert a weight to float32, unless it is that or wider."""
    return weight.astype(np.promote_types(weight.dtype, np.float32))
