"""The model from a layer's pre-activation on."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from flain_core.network import Array

from ._engine import as_array
from ._patches import answering
from ._replay import Recording
from ._run import Runner
from ._trace import Function, traced

__all__ = ["Tail"]


class Tail:
    """Gives the scores of a batch if a layer's pre-activation were another.

    The whole model runs, and the layer answers with the given pre-activation, activated: that is
    right for every model. Once traced, only what depends on the layer runs; where the engine cannot
    trace the model, it goes on as it began.

    Args:
        runner: Runs the model.
        layer: The layer.
        x: The batch, tensors of the engine.
        size: How many samples it has.
        dtype: Of the layer's pre-activation.
    """

    def __init__(self, runner: Runner, layer: Any, x: Any, size: int, dtype: str) -> None:
        self._runner, self._layer, self._x, self._size = runner, layer, x, size
        self._dtype = dtype
        self._traced: Function | None = None

    def __call__(self, output: Array) -> Array:
        """The scores ``(n, ...)`` for a pre-activation in the layer's layout."""
        run = self._traced or self._run
        return as_array(run(self._tensor(output)))

    def trace(self, output: Array, recording: Recording) -> None:
        """Prepare for many calls.

        Args:
            output: A pre-activation of the layer.
            recording: Of a run on the batch. It is not kept: the trace has what it needs.
        """

        def replayed(tensor: Any) -> Any:
            return self._run(tensor, recording)

        self._traced = traced(replayed, self._tensor(output))

    def _tensor(self, output: Array) -> Any:
        # A trace is only right for the memory layout that it was made with.
        return ops.convert_to_tensor(np.ascontiguousarray(output), dtype=self._dtype)

    def _run(self, tensor: Any, recording: Recording | None = None) -> Any:
        activation = self._layer.activation

        def answer(*_: Any, **__: Any) -> Any:
            return tensor if activation is None else activation(tensor)

        calls = recording.replaying(answer) if recording else {self._layer: answer}
        with answering(calls):
            return self._runner.run(self._x, self._size)
