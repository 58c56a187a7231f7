"""One batch, run once up to a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from flain_core.errors import LayerError, ModelError
from flain_core.network import Array

from ._catalogue import Entry
from ._contribution import LayerInput, layer_input
from ._engine import as_array, dtype_of
from ._memory import Learned, Memory
from ._observation import observe
from ._run import Runner
from ._tail import Tail

__all__ = ["KerasCut", "cut_at"]


class KerasCut:
    """Implements :class:`flain_core.network.Cut` with NumPy arrays in the layer's own layout.

    ``output`` is float32 or float64, whatever the layer computes in.
    """

    def __init__(
        self,
        name: str,
        entry: Entry,
        inputs: Sequence[Array],
        output: Array | None,
        tail: Tail,
        size: int,
    ) -> None:
        self._name, self._entry, self._size = name, entry, size
        self._output, self._tail = output, tail
        self._inputs = [layer_input(entry, x) for x in inputs]

    @property
    def calls(self) -> int:
        """How often the layer ran on the batch."""
        return len(self._inputs)

    @cached_property
    def inputs(self) -> Array:
        """``(n, in, *positions)``, read only."""
        each = [self._by_sample(entered) for entered in self._inputs]
        array = (
            each[0]
            if len(each) == 1
            else np.concatenate([x.reshape(*x.shape[:2], -1) for x in each], axis=2)
        ).view()
        array.flags.writeable = False
        return array

    @property
    def output(self) -> Array:
        """The pre-activation in the layer's own layout. Read only."""
        return self._only_output()

    def linear(self, weight: Array, neurons: Array) -> Array:
        """What ``neurons`` contribute to the pre-activation under ``weight``."""
        return self._inputs[0].linear(weight, neurons, self._only_output().shape)

    def tail(self, output: Array) -> Array:
        """The scores ``(n, ...)`` if the pre-activation were ``output``."""
        expected = self._only_output().shape
        if output.shape != expected:
            raise ModelError(
                f"pre-activation of {self._name!r}: expected shape {expected}, given {output.shape}"
            )
        return self._tail(output)

    @property
    def tails(self) -> Callable[[Sequence[Array]], Array] | None:
        """The scores ``(k, n, ...)`` of k pre-activations; None where one by one is as fast."""
        return self._tail.together

    def _only_output(self) -> Array:
        if self.calls != 1 or self._output is None:
            raise LayerError(
                f"layer {self._name!r} ran {self.calls} times on one batch; "
                "evaluate the whole network instead of a cut"
            )
        return self._output

    def _by_sample(self, entered: LayerInput) -> Array:
        x = entered.by_sample()
        if len(x) == self._size:
            return x
        if len(x) % self._size:
            raise LayerError(
                f"layer {self._name!r} is called with {len(x)} rows for {self._size} samples, so "
                "its inputs cannot be told apart by sample; choose another layer"
            )
        return np.moveaxis(x.reshape(self._size, -1, *x.shape[1:]), 1, 2)


def cut_at(name: str, entry: Entry, runner: Runner, x: Any, size: int, memory: Memory) -> KerasCut:
    """Run the model once and keep what a cut at a layer needs.

    Args:
        name: What the layer is called in messages.
        entry: The layer.
        runner: Runs the model.
        x: The batch, tensors of the engine.
        size: How many samples it has.
        memory: Of what other batches taught about this runner's layers.
    """
    layer = entry.layer
    learned = memory.at(name, x)
    fast = None if learned is None else _fast_cut(name, entry, runner, x, size, learned)
    if fast is not None:
        return fast
    seen = observe(runner, layer, x, size, keep=partial(_copied, name))
    if not seen.inputs:
        raise LayerError(
            f"layer {name!r} was not called on the batch, so its inputs cannot be observed: "
            "the model does not use it, or uses its kernel directly"
        )
    seen.output.flags.writeable = False
    tail = Tail(runner, layer, x, size, seen.dtype)
    if len(seen.inputs) == 1:
        if learned is not None and learned.serves(tail, x, seen):
            learned.note(runner, layer, x, size, seen)
        # At once: a recording kept for later would hold all that the model computed.
        elif found := tail.trace(seen):
            learned = Learned.of(seen, found)
            memory.learn(name, x, learned)
            learned.note(runner, layer, x, size, seen)
    return KerasCut(name, entry, seen.inputs, seen.output, tail, size)


def _fast_cut(
    name: str, entry: Entry, runner: Runner, x: Any, size: int, learned: Learned
) -> KerasCut | None:
    """By the compiled way up to the layer; None if there is none, or it goes wrong here."""
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
