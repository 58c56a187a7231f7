"""A network run once up to a layer, ready to go on from there many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from flain_core.backend_kit import read_only, stacked_calls
from flain_core.errors import LayerError, ModelError, WeightsError
from flain_core.network import Array

from ._layers import Contribution, LinearLayer
from ._program import Program, depending, run


class Cut:
    """Implements :class:`flain_core.network.Cut`; ``output`` has the layer's own layout."""

    def __init__(self, program: Program, layer: LinearLayer, x: Array) -> None:
        calls = [index for index, step in enumerate(program) if step.operation is layer]
        entering = [program[index].reads[0] for index in calls]
        self._program, self._layer = program, layer
        self._value = calls[-1] + 1
        self._tail = depending(program, self._value)
        computed = {self._value} | {index + 1 for index in self._tail}
        side = {value for index in self._tail for value in program[index].reads} - computed
        head = [index for index in range(len(program)) if index not in self._tail]
        known = run(program, head, {0: x}, {*entering, *side, self._value})
        self._side = {value: known[value] for value in side}
        self._entering = [known[value] for value in entering]
        self.calls = len(calls)
        self.output = read_only(known[self._value])

    @property
    def inputs(self) -> Array:
        return stacked_calls([self._layer.inputs(x) for x in self._entering])

    def linear(self, weight: Array, neurons: Array) -> Array:
        self._require_one_call()
        if weight.shape != self._layer.weight.shape:
            raise WeightsError(
                f"weight of {self._layer.name!r}: expected shape {self._layer.weight.shape}; got "
                f"{weight.shape}"
            )
        return self._contribution(weight, neurons)

    def tail(self, output: Array) -> Array:
        self._require_one_call()
        if output.shape != self.output.shape:
            raise ModelError(
                f"pre-activation of {self._layer.name!r}: expected shape {self.output.shape}; got "
                f"{output.shape}"
            )
        return self._behind(output)

    @property
    def bytes_beside(self) -> int:
        """Bytes that the tail reads besides."""
        return sum(value.nbytes for value in self._side.values())

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        return None if self._side or self.output.ndim != 2 else self._behind

    def _behind(self, output: Array) -> Array:
        end = len(self._program)
        scores = run(self._program, self._tail, {**self._side, self._value: output}, {end})[end]
        # After the last layer the scores would be the caller's own array.
        return scores.copy() if np.may_share_memory(scores, output) else scores

    @cached_property
    def _contribution(self) -> Contribution:
        return self._layer.contribution(self._entering[0])

    def _require_one_call(self) -> None:
        if self.calls > 1:
            raise LayerError(
                f"layer {self._layer.name!r} runs {self.calls} times per sample, so a change of "
                "its weight cannot be followed from one place; run the whole network instead"
            )
