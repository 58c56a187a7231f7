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
    right for every model. A tail that is wanted again is traced, with what ran before the layer
    taken from a recording; where the engine cannot trace the model, it goes on as it began.

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
        self._calls = 0
        self._traced: Function | None = None

    def __call__(self, output: Array) -> Array:
        """The scores ``(n, ...)`` for a pre-activation in the layer's layout."""
        # A trace is only right for the memory layout that it was made with.
        tensor = ops.convert_to_tensor(np.ascontiguousarray(output), dtype=self._dtype)
        self._calls += 1
        if self._traced is not None:
            return as_array(self._traced(tensor))
        if self._calls == 2:
            return as_array(self._run_and_trace(tensor))
        return as_array(self._run(tensor, None))

    def _run_and_trace(self, tensor: Any) -> Any:
        recording = Recording(self._runner.model, self._layer)
        scores = self._run(tensor, recording, record=True)
        self._traced = traced(lambda other: self._run(other, recording), tensor)
        return scores

    def _run(self, tensor: Any, recording: Recording | None, *, record: bool = False) -> Any:
        activation = self._layer.activation

        def answer(*_: Any, **__: Any) -> Any:
            return tensor if activation is None else activation(tensor)

        if recording is None:
            calls = {self._layer: answer}
        elif record:
            calls = dict(recording.recording(answer))
        else:
            calls = dict(recording.replaying(answer))
        with answering(calls):
            return self._runner.run(self._x, self._size)
