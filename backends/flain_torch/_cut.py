"""One batch, run once up to a layer, and what single input neurons contribute there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional

from flain_core.backend_kit import split_samples, stacked_calls
from flain_core.errors import LayerError, ModelError
from flain_core.flipping import only
from flain_core.network import Array

from ._device import brought, single_precision
from ._layers import (
    Convolution,
    TransposedConvolution,
    WeightLayer,
    exchanged,
    is_dense,
    wide,
)
from ._replay import Replay, row_by_row
from ._run import TorchBatch, one_at_a_time, run, scores_array
from ._tape import Escapes, Tape


class _DenseInput:
    """``(*rows, in)``, stored neuron by neuron, so that a few neurons are a few contiguous rows."""

    def __init__(self, x: Tensor) -> None:
        self._rows = x.shape[:-1]
        by_neuron = x.detach().reshape(-1, x.shape[-1]).t()
        self._by_neuron = torch.empty(by_neuron.shape, dtype=wide(x.dtype), device=x.device)
        self._by_neuron.copy_(by_neuron)

    def by_sample(self, samples: int) -> Tensor:
        """View the input as ``(n, in, *positions)`` for n = ``samples``."""
        x = self._by_neuron.t().view(*self._rows, -1)
        if self._rows.count(samples) == 1:
            x = x.movedim(self._rows.index(samples), 0)
        split: Tensor = split_samples(x, samples)
        return split.movedim(-1, 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        # Gathering here, not caching a transposed copy, stays right if the caller edits `weight`.
        x = self._by_neuron
        columns = brought(weight.T[neurons], x.device, x.dtype)
        chosen = x.index_select(0, _indices(neurons, x))
        with single_precision(x.device):
            return (chosen.t() @ columns).view(output.shape)


class _ConvolutionInput:
    """``(n, in, *positions)``."""

    def __init__(self, layer: Convolution | TransposedConvolution, x: Tensor) -> None:
        self._layer = layer
        self._x = x.detach().to(wide(x.dtype), copy=True)

    def by_sample(self, samples: int) -> Tensor:
        split: Tensor = split_samples(self._x, samples)
        return split.movedim(-1 - len(self._layer.kernel_size), 1)

    def linear(self, weight: Array, neurons: Array, output: Tensor) -> Tensor:
        """See :meth:`flain_core.network.Cut.linear`; ``output`` is for its shape."""
        if not len(neurons):
            return torch.zeros_like(output)
        if self._layer.groups == 1:
            x = self._x.index_select(1, _indices(neurons, self._x))
            chosen = np.ascontiguousarray(weight[:, neurons])
        else:
            x, chosen = self._x, only(weight, neurons, self._layer.groups)
        kernel = exchanged(self._layer, brought(chosen, x.device, x.dtype))
        with torch.no_grad(), single_precision(x.device):
            if isinstance(self._layer, TransposedConvolution):
                return _transposed_convolution(self._layer, x, kernel, output)
            convolved: Tensor = self._layer._conv_forward(x, kernel, None)
            return convolved


_LayerInput: TypeAlias = _DenseInput | _ConvolutionInput
"""A copy of what entered a layer, in float32 or float64."""


def _copied_input(layer: WeightLayer, x: Tensor) -> _LayerInput:
    """Copy what enters ``layer``, in the arrangement that its products read fastest."""
    sample_axes = 1 if is_dense(layer) else 1 + len(cast("Convolution", layer).kernel_size)
    is_plain = not x.is_nested and x.layout is torch.strided and not is_functorch_wrapped_tensor(x)
    if not is_plain or x.dim() <= sample_axes:
        raise LayerError(
            "expected the layer to be called with a plain tensor for the whole batch; its input is "
            "nested, sparse, without an axis of samples, or inside a function transform such as "
            "torch.vmap; choose another layer"
        )
    return _DenseInput(x) if is_dense(layer) else _ConvolutionInput(cast("Convolution", layer), x)


def _transposed_convolution(layer: Any, x: Tensor, kernel: Tensor, output: Tensor) -> Tensor:
    axes, size = x.dim() - 2, list(output.shape[2:])
    # The caller of the layer may have asked for an output size of its own.
    geometry = (layer.stride, layer.padding, layer.kernel_size, axes, layer.dilation)
    extra = layer._output_padding(x, size, *geometry)
    convolve: Any = getattr(functional, f"conv_transpose{axes}d")
    moves = (layer.stride, layer.padding, extra, layer.groups, layer.dilation)
    convolved: Tensor = convolve(x, kernel, None, *moves)
    return convolved


def _indices(neurons: Array, like: Tensor) -> Tensor:
    # A copy, since PyTorch warns of arrays that are read only.
    return brought(np.array(neurons, dtype=np.int64), like.device)


@dataclass(eq=False)
class _Observation:
    """The inputs and outputs of a layer in one run: copies, as the model may overwrite them."""

    name: str
    layer: WeightLayer
    inputs: list[_LayerInput] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    replay: Replay | None = None


class TorchCut:
    """Implements :class:`flain_core.network.Cut` with tensors on the module's device.

    ``output`` is float32 or float64, whatever the layer computes in, in the layer's own layout; the
    tail takes any float type. It is replayed from a recording; where the model's Python code looks
    at values, the whole module runs with the layer's output replaced.
    """

    def __init__(self, module: nn.Module, batch: TorchBatch, seen: _Observation) -> None:
        self._module, self._seen = module, seen
        # A replay needs no samples, and a search keeps many cuts.
        self._batch = batch if seen.replay is None else None
        self._by_sample = [entered.by_sample(batch.size) for entered in seen.inputs]
        self.calls = len(self._by_sample)

    @cached_property
    def inputs(self) -> Array:
        return stacked_calls([x.cpu().numpy() for x in self._by_sample])

    @cached_property
    def output(self) -> Tensor:
        return self._only_output.to(wide(self._only_output.dtype))

    def linear(self, weight: Array, neurons: Array) -> Tensor:
        """Gathering is fastest if ``weight`` lies in memory column by column (``order="F"``)."""
        return self._seen.inputs[0].linear(weight, neurons, self.output)

    def tail(self, output: Tensor | Array) -> Array:
        """Take NumPy arrays as well, as flipping in directions computes them."""
        seen = self._only_output
        if isinstance(output, np.ndarray):
            output = torch.from_numpy(output).to(seen.device).reshape(seen.shape)
        replacement = output
        if self._seen.replay is not None:
            with single_precision(seen.device):
                return scores_array(self._seen.replay(replacement))

        def replaced(*_: object) -> Tensor:
            return replacement.to(seen.dtype, copy=True)

        assert self._batch is not None  # noqa: S101  it is kept where there is no replay
        with one_at_a_time:
            # First in line: hooks of the model's owner must see the replacement as they see the
            # output.
            hook = self._seen.layer.register_forward_hook(replaced, prepend=True)
            try:
                return scores_array(run(self._module, self._batch))
            finally:
                hook.remove()

    @property
    def tails(self) -> Callable[[Sequence[Tensor]], Array] | None:
        """None on the CPU, which gains nothing by it; a device is waited for once for all."""
        replay, device = self._seen.replay, self._only_output.device
        if replay is None or device.type == "cpu":
            return None

        def scores(outputs: Sequence[Tensor]) -> Array:
            with single_precision(device):
                return scores_array(torch.stack([replay(output) for output in outputs]))

        return scores

    @property
    def bytes_beside(self) -> int:
        """Bytes that the tail reads besides: of the whole batch, if it runs the module."""
        if self._batch is not None:
            return self._batch.nbytes
        return self._seen.replay.nbytes if self._seen.replay else 0

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        """None on other devices than the CPU too, whose tensors would have to leave them for it."""
        replay, output = self._seen.replay, self._only_output
        is_matrix = output.device.type == "cpu" and output.dim() == 2
        if replay is None or not is_matrix or not row_by_row(replay.steps):
            return None
        return lambda rows: scores_array(replay(torch.from_numpy(rows)), copy=False)

    @property
    def _only_output(self) -> Tensor:
        if self.calls != 1:
            raise LayerError(
                f"layer {self._seen.name!r} ran {self.calls} times on one batch; evaluate the "
                "whole network instead of a cut"
            )
        return self._seen.outputs[0]


def cut_at(name: str, layer: WeightLayer, module: nn.Module, batch: TorchBatch) -> TorchCut:
    """Run ``module`` once and keep what a cut at ``layer``, called ``name``, needs."""
    seen = _Observation(name, layer)
    tape = Tape(constant=module.parameters())
    try:
        with _observing(seen, tape), tape, Escapes(tape):
            scores = run(module, batch)
        seen.replay = tape.replay(scores)
    except ModelError:
        # A recording can fail where the model works, for example on higher-order operators.
        seen = _Observation(name, layer)
        with _observing(seen, None):
            run(module, batch)
    if not seen.inputs:
        raise LayerError(
            f"layer {name!r} was not called on the batch, so its inputs cannot be observed: "
            "the model does not use it, or uses its weight directly; name other layers (layers=)"
        )
    return TorchCut(module, batch, seen)


@contextmanager
def _observing(seen: _Observation, tape: Tape | None) -> Iterator[None]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.inputs.append(
            _copied_input(seen.layer, args[0] if args else next(iter(kwargs.values())))
        )

    def after(_: nn.Module, __: object, output: Tensor) -> None:
        # If the layer runs several times, only its inputs are of use.
        if len(seen.inputs) == 1:
            seen.outputs.append(output.detach().clone())
            if tape is not None:
                tape.start(output)
        elif tape is not None:
            tape.stop()

    # What another thread runs meanwhile must not be taken for this run.
    with one_at_a_time:
        hooks = [
            seen.layer.register_forward_pre_hook(before, with_kwargs=True),
            seen.layer.register_forward_hook(after, prepend=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
