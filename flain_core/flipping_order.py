"""One layer of a network whose neurons are to be flipped, first some of an order and then more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .blocks import handed_over, is_small, row_blocks
from .flipping import columns, flipped_where
from .network import Array, Cut, Layer, Network

_MOST_AT_ONCE = 32  # a huge page may be touched for each neuron


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

    @property
    def is_large(self) -> bool:
        """Whether the layer's weight is so large that no further copy of it is kept."""
        return not is_small(self.layer.weight.size * self._wide.itemsize)

    def weight(self, n_flipped: int) -> Array:
        """Return the layer's weight with ``order[:n_flipped]`` flipped."""
        final = self.layer.weight
        chosen = columns(self.order[:n_flipped], final.shape, self.layer.groups)
        return flipped_where(self.initial, final, chosen, self.factor)

    def candidate(self, n_flipped: int) -> Network:
        """Return a copy of the network with ``order[:n_flipped]`` flipped."""
        return self.network.replace({self.layer.name: handed_over(self.weight(n_flipped))})

    def change_by_neuron(self, neurons: Array) -> Array:
        """``(k, out)``: what flipping takes from the weights of some neurons of a dense layer.

        As stored after rounding.

        Args:
            neurons: ``(k,)`` of those in the order.
        """
        change: Array = self._change(neurons) if self._kept is None else self._kept[neurons]
        return change

    def taken(self, cut: Cut, neurons: Array) -> Any:
        """Return what flipping some input neurons takes from the pre-activation at a cut.

        Args:
            cut: At the layer.
            neurons: ``(k,)`` distinct ones of those in the order.

        Returns:
            An array like the cut's ``output``.
        """
        taken = None
        # Neighbours in memory come together, as each page that is touched takes room.
        for few in self.parts(neurons if self._kept is not None else np.sort(neurons)):
            some = self._taken(cut, few)
            taken = some if taken is None else taken + some
        return taken

    def _taken(self, cut: Cut, neurons: Array) -> Any:
        by_neuron = self._among_zeros(neurons) if self._kept is None else self._kept
        return cut.linear(np.moveaxis(by_neuron, 0, 1), neurons)

    def parts(self, neurons: Array) -> Iterator[Array]:
        """Divide neurons so that what flipping takes from their weights is small; one or more."""
        if self._kept is not None or not neurons.size:
            yield neurons
            return
        at_once = min(next(row_blocks(np.moveaxis(self.layer.weight, 1, 0))).stop, _MOST_AT_ONCE)
        yield from np.split(neurons, range(at_once, neurons.size, at_once))

    @cached_property
    def _kept(self) -> Array | None:
        """``(in / groups, out, *kernel)``: what flipping may take from the weight, if small."""
        return None if self.is_large else self._among_zeros(self.order)

    def _among_zeros(self, neurons: Array) -> Array:
        """Return ``(in / groups, out, *kernel)``, zero for all other neurons.

        It lies in memory neuron by neuron, as a few at a time are read from it. What is zero is
        never touched, and so takes no memory.
        """
        final = self.layer.weight
        places = np.unique(neurons % final.shape[1])
        change = np.zeros((final.shape[1], len(final), *final.shape[2:]), self._wide)
        change[places] = self._change(places)
        return change

    def _change(self, places: Array) -> Array:
        """``(k, out, *kernel)`` of some columns of the weight."""
        final = self.layer.weight[:, places]
        every = np.ones((1,) * final.ndim, dtype=bool)
        flipped = flipped_where(self.initial[:, places], final, every, self.factor)
        change = final.astype(self._wide) - flipped.astype(self._wide)
        return np.ascontiguousarray(np.moveaxis(change, 1, 0))

    @property
    def _wide(self) -> np.dtype[Any]:
        return np.promote_types(self.layer.weight.dtype, np.float32)
