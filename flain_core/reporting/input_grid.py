"""Finds out which channel, row and column each input of a dense layer behind a convolution is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flain_core.network import Array, Batch, Layer, Network

_VISIBLE = 1e-4


@dataclass(frozen=True)
class InputGrid:
    """The places that the inputs of a dense layer have in the output of a convolution.

    Attributes:
        channels: Number of channels.
        rows: Rows of each channel; 1 for a one-dimensional convolution.
        columns: Columns of each channel.
        channels_last: Whether inputs that follow each other belong to one place, as in Keras, and
            not to one channel, as in PyTorch.

    Example:
        >>> grid = InputGrid(channels=2, rows=2, columns=3)
        >>> grid.place(7)
        (1, 0, 1)
        >>> grid.arrange(np.arange(12))[1]
        array([[ 6,  7,  8],
               [ 9, 10, 11]])
    """

    channels: int
    rows: int
    columns: int
    channels_last: bool = False

    def arrange(self, values: Array) -> Array:
        """Return ``(in,)`` values as ``(channels, rows, columns)``."""
        if self.channels_last:
            by_place: Array = values.reshape(self.rows, self.columns, self.channels)
            return by_place.transpose(2, 0, 1)
        return values.reshape(self.channels, self.rows, self.columns)

    def place(self, neuron: int) -> tuple[int, int, int]:
        """Return the channel, row and column of an input, all from 0."""
        if self.channels_last:
            place, channel = divmod(neuron, self.channels)
        else:
            channel, place = divmod(neuron, self.rows * self.columns)
        return channel, *divmod(place, self.columns)


def find_grid(network: Network, layer: Layer, x: Batch) -> InputGrid | None:
    """Return where the inputs of a dense layer lie, if a convolution before it shows that.

    The order of the inputs is observed, not guessed: with the weights of some channels of the
    convolution negated, only inputs of these channels may change. None where that shows nothing, or
    leaves the numbers of rows and columns open.

    Args:
        network: The model.
        layer: One of its layers.
        x: A few samples.
    """
    conv = _convolution_before(network, layer)
    if conv is None:
        return None
    try:
        before = network.cut(layer.name, x).inputs
        output = np.shape(network.cut(conv.name, x).output)
        # A backend may keep further axes before that of the samples.
        output = output[output.index(len(before)) :]
        shape = _positions(output, len(conv.weight))
        if before.ndim != 2 or shape is None:
            return None
        channels = len(conv.weight)
        negated = np.random.default_rng(0).permutation(channels) < (channels + 1) // 2
        signs = np.where(negated, -1, 1).astype(conv.weight.dtype)
        weight = conv.weight * signs.reshape(-1, *[1] * (conv.weight.ndim - 1))
        after = network.replace({conv.name: weight}).cut(layer.name, x).inputs
    # What only a picture needs must not make a purification fail, whatever a backend raises.
    except Exception:
        return None
    moved = np.abs(after - before).max(axis=0) > _VISIBLE * np.abs(before).max()
    sizes = set(_pooled(shape, layer.neurons // channels))
    if not moved.any() or len(sizes) != 1:
        return None
    (places,) = sizes
    for last in (False, True):
        grid = InputGrid(channels, *places, last)
        at = np.array([grid.place(neuron)[0] for neuron in np.flatnonzero(moved).tolist()])
        if negated[at].all():
            return grid
    return None


def _convolution_before(network: Network, layer: Layer) -> Layer | None:
    """Return the last convolution before a dense layer, if its channels may be its inputs."""
    if layer.kind != "dense":
        return None
    before = None
    for name, each in network.layers().items():
        if name == layer.name:
            break
        before = each
    if before is None or before.kind != "conv" or before.weight.ndim > 4:
        return None
    return before if layer.neurons % len(before.weight) == 0 else None


def _positions(shape: tuple[int, ...], channels: int) -> tuple[int, int] | None:
    """Return the rows and columns of a convolution's output, whatever the order of its axes."""
    if len(shape) not in (3, 4):
        return None
    if shape[1] == channels:
        sizes = shape[2:]
    elif shape[-1] == channels:
        sizes = shape[1:-1]
    else:
        return None
    return (1, *sizes) if len(sizes) == 1 else (sizes[0], sizes[1])


def _pooled(shape: tuple[int, int], count: int) -> Iterator[tuple[int, int]]:
    """Yield the rows and columns, ``count`` places, that pooling may have left of a shape."""
    rows, columns = shape
    for size in range(1, max(shape) + 1):
        for round_up in (0, size - 1):
            left = max((rows + round_up) // size, 1), max((columns + round_up) // size, 1)
            if left[0] * left[1] == count:
                yield left
