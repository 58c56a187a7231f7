"""The layers of a model by name, how each lays out its kernel, and tensors to put in their place.

| layer | kernel | canonical |
|---|---|---|
| Dense, EinsumDense | (in, out) | (out, in) |
| Conv1D, 2D, 3D | (*k, in / groups, out) | (out, in / groups, *k) |
| DepthwiseConv1D, 2D | (*k, in, multiplier) | (in · multiplier, 1, *k) |
| Conv1D-, 2D-, 3DTranspose | (*k, out, in) | (out, in, *k) |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from flain_core.backend_kit import (
    RECURRENT,
    fitting_bias,
    fitting_weight,
    kind_of,
    no_bias,
    not_finite,
    read_only,
)
from flain_core.network import Array

from ._engine import EPSILON, as_array, dtype_of

_DENSE = (layers.Dense, layers.EinsumDense)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DENSE_EQUATION = re.compile(r"([a-zA-Z]*(?:\.\.\.)?[a-zA-Z]*)([a-zA-Z]),\2([a-zA-Z])->\1\3")


@dataclass(frozen=True)
class Kind:
    """The way to read a layer.

    Attributes:
        name: ``"dense"``, ``"convolution"``, ``"depthwise"`` or ``"transposed"``.
        groups: The number of groups that its channels are split into.
        channels_first: True if channels are the second axis of its tensors, not the last.
    """

    name: str
    groups: int = 1
    channels_first: bool = False

    def canonical(self, kernel: Array) -> Array:
        """Turn a kernel in Keras's layout into ``(out, in / groups, *kernel)``."""
        if self.name == "depthwise":
            *size, channels, multiplier = kernel.shape
            kernel = kernel.reshape(*size, 1, channels * multiplier)
        if self.name == "transposed":
            return np.moveaxis(kernel, (-2, -1), (0, 1))
        return np.moveaxis(kernel, (-1, -2), (0, 1))

    def keras_layout(self, weight: Array) -> Array:
        """Turn ``(out, in / groups, *kernel)`` into Keras's layout; undoes :meth:`canonical`."""
        if self.name == "transposed":
            return np.moveaxis(weight, (0, 1), (-2, -1))
        kernel = np.moveaxis(weight, (0, 1), (-1, -2))
        if self.name == "depthwise":
            size, out = kernel.shape[:-2], kernel.shape[-1]
            kernel = kernel.reshape(*size, self.groups, out // self.groups)
        return kernel


@dataclass(frozen=True, eq=False)
class Entry:
    """A layer that can be purified.

    Attributes:
        layer: The Keras layer.
        kind: The way to read it.
        bias: Its variable ``(out,)``; None if it has none or that cannot be replaced.
    """

    layer: Any
    kind: Kind
    bias: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape ``(out, in / groups, *kernel)`` of its weight."""
        return tuple(self.kind.canonical(np.empty(self.layer.kernel.shape)).shape)


def catalogue(model: Any) -> dict[str, Entry | str]:
    """Return the dense and convolutional layers, or why they are refused, in the model's order.

    A layer inside another is called ``"outer/inner"``; where two have the same name, the later ones
    get ``"#2"`` and so on.
    """
    owners = Counter(
        id(variable)
        for layer in model._flatten_layers()
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables)
    )
    entries: dict[str, Entry | str] = {}
    for name, layer in _named(model, "", set()):
        kind = _kind_of(layer)
        if kind is None:
            continue
        if isinstance(kind, Kind) and owners[id(layer.kernel)] > 1:
            kind = "another layer uses the same kernel; flipping it would change both"
        free = free_name(name, entries)
        if isinstance(kind, str):
            entries[free] = kind
        else:
            entries[free] = Entry(layer, kind, _own_bias(layer, owners))
    return entries


def _own_bias(layer: Any, owners: Mapping[int, int]) -> Any:
    bias = getattr(layer, "bias", None)
    fits = isinstance(bias, keras.Variable) and len(bias.shape) == 1 and bias.dtype in EPSILON
    return bias if fits and owners[id(bias)] == 1 else None


def _named(parent: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for layer in parent._flatten_layers(recursive=False, include_self=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        # A Sequential keeps its layers a second time, in a Functional that it made for itself.
        if layer is getattr(parent, "_functional", None):
            continue
        yield prefix + layer.name, layer
        yield from _named(layer, f"{prefix}{layer.name}/", seen)


def _kind_of(layer: Any) -> Kind | str | None:
    """Return how to read a layer, why it is refused, or None if it is of another sort."""
    if isinstance(layer, _SEPARABLE):
        return "a separable convolution has two kernels one after the other; no single one decides"
    if isinstance(layer, layers.RNN):
        return RECURRENT
    if not isinstance(layer, (*_DENSE, *_CONVOLUTIONS, *_DEPTHWISE, *_TRANSPOSED)):
        return None
    if reason := _refusal(layer):
        return reason
    if isinstance(layer, _DENSE):
        return Kind("dense")
    first = layer.data_format == "channels_first"
    if isinstance(layer, _TRANSPOSED):
        return Kind("transposed", 1, first)
    if isinstance(layer, _DEPTHWISE):
        return Kind("depthwise", layer.kernel.shape[-2], first)
    return Kind("convolution", layer.groups, first)


def _refusal(layer: Any) -> str | None:
    equation = layer.equation if isinstance(layer, layers.EinsumDense) else None
    if equation is not None and not _DENSE_EQUATION.fullmatch(equation.replace(" ", "")):
        return (
            f"its equation {equation!r} is not that of a dense layer, '...c,cd->...d': "
            "an input neuron has no column of its own"
        )
    if not layer.built:
        return "it has no weight yet: run the model on one batch first"
    if layer.quantization_mode is not None:
        return (
            f"its weight is quantized ({layer.quantization_mode}) and a flipped one may not fit; "
            "purify the floating-point model, then quantize it"
        )
    if getattr(layer, "lora_enabled", False):
        return (
            "LoRA computes its weight from several; save the model and load it again, which merges "
            "them, and build the layer without lora_rank"
        )
    if not type(layer).call.__module__.startswith("keras."):
        return (
            f"{type(layer).__name__} has a call method of its own, so what it computes may not be "
            "linear in its kernel; use the Keras layer, or put the rest into a layer of its own"
        )
    if not isinstance(layer.kernel, keras.Variable):
        return f"its kernel is {kind_of(layer.kernel)}, not a variable"
    for dtype in (layer.compute_dtype, layer.kernel.dtype):
        if dtype not in EPSILON:
            return f"it computes in {dtype}; expected float16, bfloat16, float32 or float64"
    return None


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name, or one like ``"name#2"`` if it is taken."""
    names = chain([name], (f"{name}#{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


def array_in(tensor: Any) -> Array:
    """Copy a tensor in its own type; bfloat16, which NumPy lacks, becomes float32."""
    array = as_array(tensor)
    return array.astype(np.float16) if dtype_of(tensor) == "float16" else array


def weight_in(entry: Entry, kernel: Any) -> Array:
    """Copy the weight ``(out, in / groups, *kernel)`` out of a kernel tensor. Read only."""
    return read_only(entry.kind.canonical(array_in(kernel)))


def kernel_for(name: str, entry: Entry, weight: Array) -> Any:
    """Make a kernel tensor of a weight ``(out, in / groups, *kernel)``, in the layer's type."""
    dtype = entry.layer.kernel.dtype
    fitted = fitting_weight(name, weight, entry.shape, _numpy_type(dtype))
    return _tensor(name, "weight", entry.kind.keras_layout(fitted), dtype)


def bias_for(name: str, entry: Entry, bias: Array) -> Any:
    """Make a tensor of a bias ``(out,)``, in the layer's type."""
    if entry.bias is None:
        raise no_bias(name)
    dtype = entry.bias.dtype
    fitted = fitting_bias(name, bias, np.empty(entry.bias.shape), _numpy_type(dtype))
    return _tensor(name, "bias", fitted, dtype)


def _numpy_type(dtype: str) -> Any:
    return np.float64 if dtype == "bfloat16" else dtype


def _tensor(name: str, what: str, array: Array, dtype: str) -> Any:
    if dtype == "bfloat16":
        with np.errstate(over="ignore"):
            # Not every engine takes float64.
            array = array.astype(np.float32)
    tensor = ops.convert_to_tensor(np.ascontiguousarray(array), dtype)
    if dtype == "bfloat16" and not np.isfinite(as_array(tensor)).all():
        raise not_finite(name, dtype, what)
    return tensor
