"""What some input neurons of a layer contribute to its pre-activation."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from flain_core.errors import LayerError
from flain_core.flipping import only
from flain_core.network import Array

from ._forms import ConvolutionForm, DenseForm
from ._sessions import Session

__all__ = ["ConvolutionInput", "DenseInput", "LayerInput", "convolution_alone"]


class LayerInput(Protocol):
    """What entered a layer, chunk after chunk, in float32 or float64."""

    def by_sample(self, size: int) -> Array:
        """``(chunks * size, in, *positions)``, for chunks of ``size`` samples."""
        ...

    def linear(self, weight: Array, neurons: Array, output: Array) -> Array:
        """What ``neurons`` ``(k,)`` contribute under ``weight``, shaped like ``output``."""
        ...


class DenseInput:
    """Stored neuron by neuron, so that a few neurons are a few contiguous rows.

    Args:
        form: Of the layer.
        x: ``(chunks, ..., in)`` or ``(chunks, ..., in, columns)``.
    """

    def __init__(self, form: DenseForm, x: Array) -> None:
        self._form = form
        x = x if form.features_last else x.swapaxes(-1, -2)
        self._rows = x.shape[:-1]
        wide = np.promote_types(x.dtype, np.float32)
        self._by_neuron = np.array(x.reshape(-1, x.shape[-1]).T, dtype=wide, order="C")

    def by_sample(self, size: int) -> Array:
        x = self._by_neuron.T.reshape(*self._rows, -1)
        rows = self._rows[1:]
        if not rows:
            raise LayerError("the layer sees a single vector for the whole batch")
        axis = rows.index(size) if rows.count(size) == 1 else 0
        x = np.moveaxis(x, 1 + axis, 1)
        return np.moveaxis(_split_samples(x, size), -1, 1)

    def linear(self, weight: Array, neurons: Array, output: Array) -> Array:
        columns = weight.T[neurons].astype(self._by_neuron.dtype, copy=False)
        # matmul takes twice as long as dot for a single neuron, the commonest case.
        product: Array = np.dot(self._by_neuron[neurons].T, columns)
        if self._form.scale != 1.0:
            product *= self._form.scale
        if self._form.outputs_last:
            return product.reshape(output.shape)
        *rows, out, count = output.shape
        return product.reshape(*rows, count, out).swapaxes(-1, -2)


class ConvolutionInput:
    """Stored as it came.

    Args:
        form: Of the layer.
        convolution: The layer without its bias, which reads ``x`` and ``weight``.
        x: ``(chunks, n, in, *positions)``.
    """

    def __init__(self, form: ConvolutionForm, convolution: Session, x: Array) -> None:
        self._form = form
        self._convolution = convolution
        self._chunks = len(x)
        wide = np.promote_types(x.dtype, np.float32)
        self._x = np.array(x.reshape(-1, *x.shape[2:]), dtype=wide, order="C")

    def by_sample(self, size: int) -> Array:
        x = _split_samples(self._x.reshape(self._chunks, -1, *self._x.shape[1:]), size)
        return x if x.ndim == self._x.ndim else x.swapaxes(1, 2)

    def linear(self, weight: Array, neurons: Array, output: Array) -> Array:
        if not len(neurons):
            return np.zeros_like(output)
        groups = self._form.groups
        if groups == 1:
            x, chosen = self._x[:, neurons], weight[:, neurons]
        else:
            x, chosen = self._x, only(weight, neurons, groups)
        kernel = np.ascontiguousarray(self._form.arriving(chosen), dtype=x.dtype)
        (product,) = self._convolution.run({"x": np.ascontiguousarray(x), "weight": kernel})
        return product.reshape(output.shape)


def convolution_alone(node: NodeProto, whole: ModelProto, element: int) -> ModelProto:
    """A model of one convolution like ``node``, with inputs ``x`` and ``weight`` and no bias."""
    alone = ModelProto()
    alone.ir_version = max(whole.ir_version, 4)
    alone.opset_import.extend(whole.opset_import)
    convolution = helper.make_node(node.op_type, ["x", "weight"], ["output"])
    convolution.attribute.extend(node.attribute)
    alone.graph.name = "convolution"
    alone.graph.node.append(convolution)
    for name in ("x", "weight"):
        value = ValueInfoProto(name=name)
        value.type.tensor_type.elem_type = element
        alone.graph.input.append(value)
    alone.graph.output.append(ValueInfoProto(name="output"))
    return alone


def _split_samples(x: Array, size: int) -> Array:
    """From ``(chunks, rows, ...)`` to ``(chunks * size, ...)``."""
    chunks, rows = x.shape[:2]
    if rows % size:
        raise LayerError(
            f"expected the layer to see every one of the {size} samples equally often; its input "
            f"has shape {x.shape[1:]}; choose another layer"
        )
    if rows == size:
        return x.reshape(chunks * size, *x.shape[2:])
    return x.reshape(chunks * size, rows // size, *x.shape[2:])
