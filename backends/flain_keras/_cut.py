"""One batch, run once up to a layer, and what single input neurons contribute there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from keras import ops

from flain_core.backend_kit import DenseInput, split_samples, stacked_calls
from flain_core.errors import LayerError, ModelError
from flain_core.flipping import only
from flain_core.network import Array

from ._engine import as_array, dtype_of, no_gradients, single_precision
from ._layers import Entry
from ._memory import Learned, Memory, before, key_of
from ._observation import observe
from ._run import Runner
from ._tail import Tail


class _ConvolutionInput:
    """A convolution's input in Keras's layout; the engine convolves, in the input's own type."""

    def __init__(self, entry: Entry, x: Array) -> None:
        self._layer, self._kind = entry.layer, entry.kind
        self.x = x

    def linear(self, weight: Array, neurons: Array) -> Array:
        x, weight = self.x, weight.astype(self.x.dtype, copy=False)
        if self._kind.groups == 1:
            x = np.take(x, neurons, axis=1 if self._kind.channels_first else -1)
            weight = weight[:, neurons]
        else:
            weight = only(weight, neurons, self._kind.groups)
        kernel = np.ascontiguousarray(self._kind.keras_layout(weight))
        with no_gradients(), single_precision():
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


class KerasCut:
    """Implements :class:`flain_core.network.Cut` with NumPy arrays in the layer's own layout.

    ``output`` is float32 or float64, whatever the layer computes in. The tail is traced, by
    ``learn``, when it or ``bytes_beside`` is first asked for. Ask before cutting many batches:
    until then each cut holds every tensor that the model computed before the layer.
    """

    def __init__(
        self,
        name: str,
        entry: Entry,
        inputs: Sequence[Array],
        output: Array | None,
        tail: Tail,
        size: int,
        learn: Callable[[], None] | None = None,
    ) -> None:
        self._name, self._entry, self._size = name, entry, size
        self._output, self._unprepared, self._learn = output, tail, learn
        self.calls = len(inputs)
        is_dense = entry.kind.name == "dense"
        self._inputs = [DenseInput(x) if is_dense else _ConvolutionInput(entry, x) for x in inputs]

    @cached_property
    def inputs(self) -> Array:
        positions = len(self._entry.shape) - 2
        channels = -1 - positions if self._entry.kind.channels_first else -1
        samples = [split_samples(entered.x, self._size) for entered in self._inputs]
        return stacked_calls([np.moveaxis(x, channels, 1) for x in samples])

    @property
    def output(self) -> Array:
        if self.calls != 1 or self._output is None:
            raise LayerError(
                f"layer {self._name!r} ran {self.calls} times on one batch; "
                "evaluate the whole network instead of a cut"
            )
        return self._output

    def linear(self, weight: Array, neurons: Array) -> Array:
        output = self.output
        return self._inputs[0].linear(weight, neurons) if len(neurons) else np.zeros_like(output)

    def tail(self, output: Array) -> Array:
        expected = self.output.shape
        if output.shape != expected:
            raise ModelError(
                f"pre-activation of {self._name!r}: expected shape {expected}, given {output.shape}"
            )
        return self._tail(output)

    @cached_property
    def _tail(self) -> Tail:
        # Another thread may ask meanwhile, and clear it first.
        if (learn := self._learn) is not None:
            with single_precision():
                learn()
            self._learn = None
        self._unprepared.let_go()
        return self._unprepared

    @property
    def bytes_beside(self) -> int:
        """Bytes that the tail reads besides; the tail is traced to know."""
        return self._tail.nbytes

    @property
    def tails(self) -> Callable[[Sequence[Array]], Array] | None:
        """The function for several pre-activations; None where one by one is as fast."""
        return None if self._output is None else self._tail.together(self._output)


def cut_at(name: str, entry: Entry, runner: Runner, x: Any, size: int, memory: Memory) -> KerasCut:
    """Run the model once on n = ``size`` samples and keep what a cut at a layer needs.

    ``memory`` holds what other batches taught about this runner's layers.
    """
    layer = entry.layer
    key = key_of(name, x)
    learned = memory.get(key)
    fast = None if learned is None else _fast_cut(name, entry, runner, x, size, learned)
    if fast is not None:
        return fast
    seen = observe(runner, layer, x, size, keep=partial(_copied, name))
    if not seen.inputs:
        raise LayerError(
            f"layer {name!r} was not called on the batch, so its inputs cannot be observed: "
            "the model does not use it, or uses its kernel directly; name other layers (layers=)"
        )
    seen.output.flags.writeable = False
    tail = Tail(runner, layer, x, size, seen.dtype)

    def learn() -> None:
        known = memory.get(key)
        if known is None or not known.serves(tail, x, seen):
            found = tail.trace(seen)
            known = Learned(before(seen), found) if found else None
        if known is not None:
            memory[key] = known
            known.note(runner, layer, x, size, seen)

    once = len(seen.inputs) == 1
    return KerasCut(name, entry, seen.inputs, seen.output, tail, size, learn if once else None)


def _fast_cut(
    name: str, entry: Entry, runner: Runner, x: Any, size: int, learned: Learned
) -> KerasCut | None:
    """Cut by the compiled way up to the layer; None if there is none, or it goes wrong here."""
    if learned.head is None:
        return None
    try:
        inputs, pre_activation, scores, beside = learned.head(x)
    # An engine says in its own ways that it cannot run this batch; the model itself tells more.
    except Exception:
        return None
    tail = Tail(runner, entry.layer, x, size, dtype_of(pre_activation))
    output = _copied(name, pre_activation)
    if not tail.take(learned.traced, beside, output, _copied(name, scores)):
        return None
    output.flags.writeable = False
    return KerasCut(name, entry, [_copied(name, inputs)], output, tail, size)


def _copied(name: str, tensor: Any) -> Array:
    try:
        return as_array(tensor)
    # Each engine has its own error for a tensor that has no values.
    except Exception as error:
        raise LayerError(
            f"layer {name!r} runs inside a loop or a function that the engine traces, so its "
            "inputs cannot be observed; choose another layer"
        ) from error
