"""What some input neurons of a layer contribute to its pre-activation."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional

from flain_core.errors import LayerError
from flain_core.flipping import only
from flain_core.network import Array

from ._kinds import Convolution, TransposedConvolution, WeightLayer
from ._orientation import torch_layout, wide

__all__ = ["LayerInput", "copied_input"]

_TRANSPOSED_CONVOLUTION = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


class LayerInput(Protocol):
    """A copy of what entered a layer, in float32 or float64."""

    def by_sample(self, samples: int) -> Tensor:
        """The input as ``(n, in, *positions)`` for n = ``samples``, a view."""
        ...

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        """What ``neurons`` contribute under ``weight``; shaped like the pre-activation ``output``.

        Args:
            weight: ``(out, in / groups, *kernel)``.
            neurons: ``(k,)`` distinct indices.
            output: A pre-activation of the layer, for its shape.
        """
        ...


def copied_input(layer: WeightLayer, x: Tensor) -> LayerInput:
    """Copy what enters ``layer``, in the arrangement that its products read fastest."""
    if x.is_nested or x.layout is not torch.strided or is_functorch_wrapped_tensor(x):
        raise LayerError(
            "expected the layer to be called with a plain tensor for the whole batch; its input is "
            "nested, sparse or inside a function transform such as torch.vmap; choose another layer"
        )
    return _DenseInput(x) if isinstance(layer, nn.Linear) else _ConvolutionInput(layer, x)


class _DenseInput:
    """``(*rows, in)``, stored neuron by neuron, so that a few neurons are a few contiguous rows."""

    def __init__(self, x: Tensor) -> None:
        self._rows = x.shape[:-1]
        columns = x.detach().reshape(-1, x.shape[-1]).t()
        self._columns = torch.empty(columns.shape, dtype=wide(x.dtype), device=x.device)
        self._columns.copy_(columns)

    def by_sample(self, samples: int) -> Tensor:
        x = self._columns.t().view(*self._rows, -1)
        if self._rows.count(samples) == 1:
            x = x.movedim(self._rows.index(samples), 0)
        return _split_samples(x, samples, x.dim() - 1).movedim(-1, 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        # Gathering here, not caching a transposed copy, stays right if the caller edits `weight`.
        chosen = _tensor(weight.T[neurons], self._columns)
        rows = self._columns.index_select(0, _indices(neurons, self._columns))
        return (rows.t() @ chosen).view(output.shape)


class _ConvolutionInput:
    """``(n, in, *positions)``."""

    def __init__(self, layer: Convolution | TransposedConvolution, x: Tensor) -> None:
        self._layer = layer
        self._x = x.detach().to(wide(x.dtype), copy=True)

    def by_sample(self, samples: int) -> Tensor:
        spatial = len(self._layer.kernel_size)
        x = _split_samples(self._x, samples, self._x.dim() - 1 - spatial)
        return x.movedim(-1 - spatial, 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        if not len(neurons):
            return torch.zeros_like(output)
        if self._layer.groups == 1:
            x = self._x.index_select(1, _indices(neurons, self._x))
            chosen = np.ascontiguousarray(weight[:, neurons])
        else:
            x = self._x
            chosen = only(weight, neurons, self._layer.groups)
        kernel = torch_layout(self._layer, _tensor(chosen, x))
        with torch.no_grad():
            if isinstance(self._layer, TransposedConvolution):
                return _transposed_convolution(self._layer, x, kernel, output)
            convolved: Tensor = self._layer._conv_forward(x, kernel, None)
            return convolved


def _split_samples(x: Tensor, samples: int, batch_axes: int) -> Tensor:
    """Bring ``x`` into the form ``(n, ...)`` for n = ``samples``."""
    if batch_axes and x.shape[0] == samples:
        return x
    if batch_axes and x.shape[0] % samples == 0:
        return x.reshape(samples, -1, *x.shape[1:])
    raise LayerError(
        f"expected the layer to see every one of the {samples} samples equally often; its input "
        f"has shape {tuple(x.shape)}; choose another layer"
    )


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
    return _TRANSPOSED_CONVOLUTION[x.dim() - 3](
        x, kernel, None, layer.stride, padding, extra, layer.groups, layer.dilation
    )


def _tensor(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device, like.dtype)


def _indices(neurons: Array, like: Tensor) -> Tensor:
    # A copy, since PyTorch warns of arrays that are read only.
    return torch.from_numpy(np.array(neurons, dtype=np.int64)).to(like.device)
