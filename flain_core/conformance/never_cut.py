"""A network that is never cut, so that a search has to run the whole of it each time."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

from flain_core.network import Array, Batch, Cut, Network


def never_cut(network: Network) -> Network:
    """Return a network whose layers all claim to run twice, so that it is never cut."""

    def cut(layer: str, x: Batch) -> Cut:
        # Only the inputs may be used.
        return cast("Cut", SimpleNamespace(inputs=network.cut(layer, x).inputs, calls=2))

    def replace(*arrays: Mapping[str, Array]) -> Network:
        return never_cut(network.replace(*arrays))

    wrapped = SimpleNamespace(
        native=network.native,
        layers=network.layers,
        predict=network.predict,
        cut=cut,
        replace=replace,
    )
    return cast("Network", wrapped)
