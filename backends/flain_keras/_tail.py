"""The tail of a model, from a layer's pre-activation to the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from flain_core.network import Array

from ._engine import EPSILON, as_array, nbytes_of, single_precision
from ._observation import Observation, Recording, having
from ._run import Runner, one_at_a_time
from ._trace import Function, Traced, traced

_AGREEMENT = 1e-5
_ROUNDINGS_ALLOWED = 64


class Tail:
    """A function that gives the scores of a batch if a layer's pre-activation were another.

    The whole model runs, and the layer answers with the given pre-activation, activated: that is
    right for every model. Once traced, only what depends on the layer runs; where the engine cannot
    trace the model, it goes on as it began. ``dtype`` is the type of the pre-activation.
    """

    def __init__(self, runner: Runner, layer: Any, x: Any, size: int, dtype: str) -> None:
        self._runner, self._layer, self._x, self._size = runner, layer, x, size
        self._dtype = dtype
        self._traced: Traced | None = None
        self._beside: list[Any] = []

    def __call__(self, output: Array) -> Array:
        tensor = self._tensor(output)
        with single_precision():
            if self._traced is None:
                return as_array(self._run(tensor, self._x))
            return as_array(self._traced.function(tensor, *self._beside))

    def together(self, output: Array) -> Callable[[Sequence[Array]], Array] | None:
        """Return a function of k pre-activations that gives ``(k, n, ...)``; None if none is right.

        ``output`` is a pre-activation on which it is tried before it is first used.
        """
        traced = self._traced
        if traced is None:
            return None
        if not traced.compared:
            # In this order, as other threads may ask meanwhile.
            if traced.together and not self._agrees(self._several(traced.together), output):
                traced.together = None
            traced.compared = True
        return None if traced.together is None else self._several(traced.together)

    def _several(self, together: Function) -> Callable[[Sequence[Array]], Array]:
        def scores(outputs: Sequence[Array]) -> Array:
            stacked = self._tensor(np.stack(outputs))
            with single_precision():
                return as_array(together(stacked, *self._beside))

        return scores

    @property
    def nbytes(self) -> int:
        """Bytes of what the tail keeps of the batch: all of it where the whole model runs."""
        kept = keras.tree.flatten(self._x) if self._traced is None else self._beside
        return sum(map(nbytes_of, kept))

    def let_go(self) -> None:
        """Keep no more of the batch than a trace reads; a search keeps many tails."""
        if self._traced is not None:
            self._x = None

    def trace(self, seen: Observation) -> Traced | None:
        """Prepare for many calls, from a run on the batch.

        The tail keeps of that run only what it reads. The trace, if any, goes for every batch of
        this shape in which the same layers ran before.
        """
        flat = keras.tree.flatten(self._x)
        structure, count = keras.tree.map_structure(lambda _: 0, self._x), len(flat)
        # A trace outlives the batch, and engines may go through the function again.
        bare = Tail(self._runner, self._layer, None, self._size, self._dtype)
        recording = seen.recording.emptied()

        def replayed(tensor: Any, *others: Any) -> Any:
            x = keras.tree.pack_sequence_as(structure, list(others[:count]))
            return bare._run(tensor, x, recording, others[count:])

        found = traced(replayed, self._tensor(seen.output), [*flat, *seen.recording.tensors])
        if found is not None:
            self.take(found, seen.beside(self._x, found), seen.output, seen.scores)
        return self._traced

    def take(self, found: Traced, beside: Sequence[Any], output: Array, scores: Array) -> bool:
        """Go on with a trace, and return True, if it gives what a run on this very batch gave.

        A trace holds for good what it cannot see depend on the batch: numbers that a layer gave as
        plain Python, tensors that one layer left on itself for another. It reads ``beside`` besides
        the pre-activation, which was ``output`` in that run.
        """
        self._traced, self._beside = found, list(beside)
        allowed = max(_AGREEMENT, _ROUNDINGS_ALLOWED * EPSILON[self._dtype])
        # An engine that cannot run a trace on other values says so in its own ways.
        try:
            given = self(output)
        except Exception:
            given = np.zeros(0)
        if given.shape != scores.shape or not np.allclose(
            given, scores, rtol=0, atol=allowed * float(np.abs(scores).max()), equal_nan=True
        ):
            self._traced, self._beside = None, []
        return self._traced is not None

    def _agrees(self, several: Callable[[Sequence[Array]], Array], output: Array) -> bool:
        """Return whether several at a time give what one at a time gives."""
        outputs = [output, output * output.dtype.type(0.5)]
        try:
            given = several(outputs)
        # An engine that cannot map a model's own operations says so in its own ways.
        except Exception:
            return False
        each = np.stack([self(one) for one in outputs])
        allowed = _AGREEMENT * float(np.abs(each).max())
        return given.shape == each.shape and np.allclose(given, each, rtol=0, atol=allowed)

    def _tensor(self, output: Array) -> Any:
        # A trace is only right for the memory layout that it was made with.
        return ops.convert_to_tensor(np.ascontiguousarray(output), dtype=self._dtype)

    def _run(
        self,
        tensor: Any,
        x: Any,
        recording: Recording | None = None,
        tensors: Sequence[Any] = (),
    ) -> Any:
        def answer(*_: Any, **__: Any) -> Any:
            return tensor if activation is None else activation(tensor)

        with one_at_a_time:
            activation = self._layer.activation
            calls = recording.replaying(answer, tensors) if recording else {self._layer: answer}
            with having("call", calls):
                return self._runner.run(x, self._size)
