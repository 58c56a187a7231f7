"""One layer of a network whose neurons are flipped in a given order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .flipping import flip
from .network import Array, Layer, Network

__all__ = ["FlippingOrder"]


@dataclass(frozen=True, eq=False)
class FlippingOrder:
    """One layer of a network whose neurons are to be flipped, in a given order.

    Attributes:
        network: The model as it stands.
        layer: The layer, with its final weight.
        initial: The layer's initial weight, ``(out, in / groups, *kernel)``.
        factor: 2 flips an update, 1 resets it.
        order: ``(m,)`` indices of input neurons; a candidate flips the first few of them.
    """

    network: Network
    layer: Layer
    initial: Array
    factor: float
    order: Array

    def weight(self, end: int) -> Array:
        """The layer's weight with ``order[:end]`` flipped."""
        return self._flip(self.order[:end])

    def candidate(self, end: int) -> Network:
        """A copy of the network with ``order[:end]`` flipped."""
        return self.network.replace({self.layer.name: self.weight(end)})

    @cached_property
    def change(self) -> Array:
        """What flipping takes from each entry of the weight, as it is stored after rounding.

        Laid out neuron by neuron in memory, since a few neurons at a time are read from it.
        """
        final = self.layer.weight
        wide = np.promote_types(final.dtype, np.float32)
        flipped = self._flip(np.ones(self.layer.neurons, dtype=bool))
        change = final.astype(wide) - flipped.astype(wide)
        by_neuron = np.ascontiguousarray(np.moveaxis(change, 1, 0))
        return np.moveaxis(by_neuron, 0, 1)

    def _flip(self, neurons: Array) -> Array:
        layer = self.layer
        return flip(self.initial, layer.weight, neurons, groups=layer.groups, factor=self.factor)
