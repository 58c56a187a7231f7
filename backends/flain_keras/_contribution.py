"""What some input neurons of a layer contribute to its pre-activation."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from keras import ops

from flain_core.flipping import only
from flain_core.network import Array

from ._catalogue import Entry
from ._engine import as_array, no_gradients

__all__ = ["LayerInput", "layer_input"]


class LayerInput(Protocol):
    """What entered a layer, kept as the products read it fastest."""

    def by_sample(self) -> Array:
        """The input as ``(n, in, *positions)``."""
        ...

    def linear(self, weight: Array, neurons: Array, shape: tuple[int, ...]) -> Array:
        """What ``neurons`` ``(k,)`` contribute under ``weight``; of the pre-activation's shape."""
        ...


def layer_input(entry: Entry, x: Array) -> LayerInput:
    """Keep ``x``, a copy of what enters a layer in Keras's layout, in float32 or float64."""
    return _DenseInput(x) if entry.kind.name == "dense" else _ConvolutionInput(entry, x)


class _DenseInput:
    """``(*rows, in)``, stored neuron by neuron, so that a few neurons are a few contiguous rows.

    In NumPy: for products as small as these, calling an engine costs more than multiplying.
    """

    def __init__(self, x: Array) -> None:
        self._rows = x.shape[:-1]
        self._columns = np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T)

    def by_sample(self) -> Array:
        return np.moveaxis(self._columns.T.reshape(*self._rows, -1), -1, 1)

    def linear(self, weight: Array, neurons: Array, shape: tuple[int, ...]) -> Array:
        chosen = weight.T[neurons].astype(self._columns.dtype, copy=False)
        product: Array = self._columns[neurons].T @ chosen
        return product.reshape(shape)


class _ConvolutionInput:
    """In Keras's layout; the engine convolves, in the numbers of the copy."""

    def __init__(self, entry: Entry, x: Array) -> None:
        self._layer, self._kind = entry.layer, entry.kind
        self._x = x

    def by_sample(self) -> Array:
        return self._kind.neurons_second(self._x)

    def linear(self, weight: Array, neurons: Array, shape: tuple[int, ...]) -> Array:
        if not len(neurons):
            return np.zeros(shape, self._x.dtype)
        x, weight = self._x, weight.astype(self._x.dtype, copy=False)
        if self._kind.groups == 1:
            x = np.take(x, neurons, axis=1 if self._kind.channels_first else -1)
            weight = weight[:, neurons]
        else:
            weight = only(weight, neurons, self._kind.groups)
        kernel = np.ascontiguousarray(self._kind.keras_layout(weight))
        with no_gradients():
            return as_array(self._convolve(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)))

    def _convolve(self, x: Any, kernel: Any) -> Any:
        layer = self._layer
        shared = {
            "strides": layer.strides,
            "padding": layer.padding,
            "dilation_rate": layer.dilation_rate,
            "data_format": layer.data_format,
        }
        if self._kind.name == "transposed":
            return ops.conv_transpose(x, kernel, output_padding=layer.output_padding, **shared)
        if self._kind.name == "depthwise":
            return ops.depthwise_conv(x, kernel, **shared)
        if layer.padding == "causal":
            x = ops.pad(x, layer._compute_causal_padding())
            shared["padding"] = "valid"
        return ops.conv(x, kernel, **shared)
