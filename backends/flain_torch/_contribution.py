"""The contribution of some input neurons to the pre-activation of a layer."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional

from flain_core.backend_kit import split_samples
from flain_core.errors import LayerError
from flain_core.flipping import only
from flain_core.network import Array

from ._layers import Convolution, TransposedConvolution, WeightLayer, exchanged, wide


class _DenseInput:
    """``(*rows, in)``, stored neuron by neuron, so that a few neurons are a few contiguous rows."""

    def __init__(self, x: Tensor) -> None:
        self._rows = x.shape[:-1]
        by_neuron = x.detach().reshape(-1, x.shape[-1]).t()
        self._by_neuron = torch.empty(by_neuron.shape, dtype=wide(x.dtype), device=x.device)
        self._by_neuron.copy_(by_neuron)

    def by_sample(self, samples: int) -> Tensor:
        """Return the input as ``(n, in, *positions)`` for n = ``samples``, a view."""
        x = self._by_neuron.t().view(*self._rows, -1)
        if self._rows.count(samples) == 1:
            x = x.movedim(self._rows.index(samples), 0)
        split: Tensor = split_samples(x, samples)
        return split.movedim(-1, 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        """Return what ``neurons`` contribute; see :meth:`_ConvolutionInput.linear`."""
        # Gathering here, not caching a transposed copy, stays right if the caller edits `weight`.
        columns = _tensor_like(weight.T[neurons], self._by_neuron)
        chosen = self._by_neuron.index_select(0, _indices(neurons, self._by_neuron))
        return (chosen.t() @ columns).view(output.shape)


class _ConvolutionInput:
    """``(n, in, *positions)``."""

    def __init__(self, layer: Convolution | TransposedConvolution, x: Tensor) -> None:
        self._layer = layer
        self._x = x.detach().to(wide(x.dtype), copy=True)

    def by_sample(self, samples: int) -> Tensor:
        """Return the input as ``(n, in, *positions)`` for n = ``samples``, a view."""
        split: Tensor = split_samples(self._x, samples)
        return split.movedim(-1 - len(self._layer.kernel_size), 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        """Return what ``neurons`` contribute under ``weight``.

        Args:
            weight: ``(out, in / groups, *kernel)``.
            neurons: ``(k,)`` distinct indices.
            output: A pre-activation of the layer, for its shape.
        """
        if not len(neurons):
            return torch.zeros_like(output)
        if self._layer.groups == 1:
            x = self._x.index_select(1, _indices(neurons, self._x))
            chosen = np.ascontiguousarray(weight[:, neurons])
        else:
            x, chosen = self._x, only(weight, neurons, self._layer.groups)
        kernel = exchanged(self._layer, _tensor_like(chosen, x))
        with torch.no_grad():
            if isinstance(self._layer, TransposedConvolution):
                return _transposed_convolution(self._layer, x, kernel, output)
            convolved: Tensor = self._layer._conv_forward(x, kernel, None)
            return convolved


LayerInput: TypeAlias = _DenseInput | _ConvolutionInput
"""A copy of what entered a layer, in float32 or float64."""


def copied_input(layer: WeightLayer, x: Tensor) -> LayerInput:
    """Copy what enters ``layer``, in the arrangement that its products read fastest."""
    sample_axes = 1 if isinstance(layer, nn.Linear) else 1 + len(layer.kernel_size)
    is_plain = not x.is_nested and x.layout is torch.strided and not is_functorch_wrapped_tensor(x)
    if not is_plain or x.dim() <= sample_axes:
        raise LayerError(
            "expected the layer to be called with a plain tensor for the whole batch; its input is "
            "nested, sparse, without an axis of samples, or inside a function transform such as "
            "torch.vmap; choose another layer"
        )
    return _DenseInput(x) if isinstance(layer, nn.Linear) else _ConvolutionInput(layer, x)


def _transposed_convolution(
    layer: TransposedConvolution, x: Tensor, kernel: Tensor, output: Tensor
) -> Tensor:
    # The caller of the layer may have asked for an output size of its own.
    padding: Any = layer.padding
    extra = layer._output_padding(
        x,
        list(output.shape[2:]),
        layer.stride,  # type: ignore[arg-type]
        padding,
        layer.kernel_size,  # type: ignore[arg-type]
        x.dim() - 2,
        layer.dilation,  # type: ignore[arg-type]
    )
    convolve: Any = getattr(functional, f"conv_transpose{x.dim() - 2}d")
    moves = (layer.stride, padding, extra, layer.groups, layer.dilation)
    convolved: Tensor = convolve(x, kernel, None, *moves)
    return convolved


def _tensor_like(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device, like.dtype)


def _indices(neurons: Array, like: Tensor) -> Tensor:
    # A copy, since PyTorch warns of arrays that are read only.
    return torch.from_numpy(np.array(neurons, dtype=np.int64)).to(like.device)
