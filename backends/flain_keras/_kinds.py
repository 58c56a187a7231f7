"""The kinds of layers that can be purified, and how each lays out its kernel.

| layer | kernel | canonical |
|---|---|---|
| Dense, EinsumDense | (in, out) | (out, in) |
| Conv1D, 2D, 3D | (*k, in / groups, out) | (out, in / groups, *k) |
| DepthwiseConv1D, 2D | (*k, in, multiplier) | (in · multiplier, 1, *k) |
| Conv1D-, 2D-, 3DTranspose | (*k, out, in) | (out, in, *k) |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from flain_core.network import Array

from ._engine import EPSILON

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


def kind_of(layer: Any) -> Kind | str | None:
    """Return how to read a layer, why it is refused, or None if it is of another sort."""
    if isinstance(layer, _SEPARABLE):
        return "a separable convolution has two kernels one after the other; no single one decides"
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
        return f"its kernel is a {type(layer.kernel).__name__}, not a variable"
    for dtype in (layer.compute_dtype, layer.kernel.dtype):
        if dtype not in EPSILON:
            return f"it computes in {dtype}; expected float16, bfloat16, float32 or float64"
    return None
