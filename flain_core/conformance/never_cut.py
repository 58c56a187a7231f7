"""A network that is never cut, so that a search has to run the whole of it each time."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from flain_core.network import Array, Batch, Cut, Network


class NeverCut:
    """A network whose layers all claim to run twice, so that it is never cut."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.layers = network.layers
        self.predict = network.predict

    @property
    def native(self) -> Any:
        """The native model of the network."""
        return self._network.native

    def cut(self, layer: str, x: Batch) -> Cut:
        """Return the network's cut, of which only the inputs may be used."""
        return cast("Cut", SimpleNamespace(inputs=self._network.cut(layer, x).inputs, calls=2))

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> NeverCut:
        """Return a copy that is not cut either."""
        # A network whose layers show no bias need not take any.
        given = (weights,) if biases is None else (weights, biases)
        return NeverCut(self._network.replace(*given))
