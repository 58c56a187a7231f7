"""Layers that answer differently while the model runs; what passes one, and what ran before it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask

from ._run import Runner, one_at_a_time
from ._trace import Traced

_Calls = Mapping[Any, Callable[..., Any]]


@contextmanager
def having(name: str, values: Mapping[Any, Any]) -> Iterator[None]:
    """Give layers other values of an attribute, such as ``call``, inside a ``with`` block.

    They go into the instance's own dictionary, which comes first on all engines, also where an
    engine keeps layers elsewhere. Nested blocks must end in the opposite order, as ``with`` makes
    sure; so blocks of several threads must come one after the other.
    """
    before = {layer: vars(layer)[name] for layer in values if name in vars(layer)}
    try:
        for layer, value in values.items():
            vars(layer)[name] = value
        yield
    finally:
        for layer in values:
            if layer in before:
                vars(layer)[name] = before[layer]
            else:
                vars(layer).pop(name, None)


class Recording:
    """The outputs of the outermost layers that finish before one layer is called."""

    def __init__(self, model: Any, layer: Any) -> None:
        self._layer = layer
        self._others = [
            other for other in model._flatten_layers(include_self=False) if other is not layer
        ]
        # For each layer that is running, from the outside in, what has finished inside it.
        self._running: list[list[tuple[Any, Any]]] = [[]]
        self._finished: list[tuple[Any, Any]] | None = None

    def emptied(self) -> Recording:
        """Return a copy that can be replayed, but holds no numbers of the batch."""
        empty = copy(self)
        empty._running = []
        empty._finished = [
            (layer, keras.tree.map_structure(_emptied, output))
            for layer, output in self._finished or ()
        ]
        return empty

    def recording(self, answer: Callable[..., Any]) -> _Calls:
        """Return what the layers have to call during a run; the layer itself gives ``answer``."""

        def reached(*args: Any, **kwargs: Any) -> Any:
            if self._finished is None:
                self._finished = [each for inside in self._running for each in inside]
            return answer(*args, **kwargs)

        return {other: self._recorded(other) for other in self._others} | {self._layer: reached}

    @property
    def layers(self) -> list[Any]:
        """The layers that finished, in order."""
        return [layer for layer, _ in self._finished or ()]

    @property
    def tensors(self) -> list[Any]:
        """The tensors that they gave, and the masks that Keras attached to those."""
        outputs = self._outputs
        return [*outputs, *filter(keras.ops.is_tensor, map(get_keras_mask, outputs))]

    @property
    def plain(self) -> list[Any]:
        """The other values that they gave, which are the same in every replay."""
        return [leaf for leaf in self._leaves if not keras.ops.is_tensor(leaf)]

    @property
    def _outputs(self) -> list[Any]:
        return [leaf for leaf in self._leaves if keras.ops.is_tensor(leaf)]

    @property
    def _leaves(self) -> list[Any]:
        leaves: list[Any] = keras.tree.flatten([output for _, output in self._finished or ()])
        return leaves

    def _masked(self, tensors: Sequence[Any]) -> Iterator[Any]:
        """Attach to the tensors the masks that the layers inside the skipped ones would attach."""
        outputs = self._outputs
        masks = iter(tensors[len(outputs) :])
        for recorded, tensor in zip(outputs, tensors, strict=False):
            if keras.ops.is_tensor(get_keras_mask(recorded)):
                set_keras_mask(tensor, next(masks))
            yield tensor

    def replaying(self, answer: Callable[..., Any], tensors: Sequence[Any]) -> _Calls:
        """Return what the layers have to call in another run, which skips what was recorded.

        The layer itself gives ``answer``; the skipped ones gave ``tensors``, as :attr:`tensors`
        lists them.
        """
        given = self._masked(tensors)
        outputs: dict[Any, deque[Any]] = defaultdict(deque)
        for layer, output in self._finished or ():
            outputs[layer].append(
                keras.tree.map_structure(
                    lambda leaf: next(given) if keras.ops.is_tensor(leaf) else leaf, output
                )
            )
        replayed = {layer: _replayed(layer, queue) for layer, queue in outputs.items()}
        return replayed | {self._layer: answer}

    def _recorded(self, layer: Any) -> Callable[..., Any]:
        call = layer.call

        def recorded(*args: Any, **kwargs: Any) -> Any:
            if self._finished is not None:
                return call(*args, **kwargs)
            self._running.append([])
            output = call(*args, **kwargs)
            self._running.pop()
            if self._finished is None:
                self._running[-1].append((layer, output))
            return output

        return recorded


def _emptied(leaf: Any) -> Any:
    if not keras.ops.is_tensor(leaf):
        return leaf
    empty = keras.ops.zeros((0,))
    if keras.ops.is_tensor(get_keras_mask(leaf)):
        set_keras_mask(empty, keras.ops.zeros((0,)))
    return empty


def _replayed(layer: Any, outputs: deque[Any]) -> Callable[..., Any]:
    call = layer.call

    def replayed(*args: Any, **kwargs: Any) -> Any:
        # Later calls of a layer that ran before and after the cut depend on it.
        return outputs.popleft() if outputs else call(*args, **kwargs)

    return replayed


@dataclass(eq=False)
class Observation:
    """A record of what passed a layer during one run.

    Attributes:
        recording: The calls of other layers before it.
        inputs: The tensors that entered it, call by call.
        output: Its first pre-activation; None if it was not called.
        dtype: The number type of that pre-activation.
        scores: The scores at the end of the run.
    """

    recording: Recording
    inputs: list[Any] = field(default_factory=list)
    output: Any = None
    dtype: str = ""
    scores: Any = None

    def beside(self, x: Any, traced: Traced) -> list[Any]:
        """List what a traced tail reads besides the pre-activation."""
        every = [*keras.tree.flatten(x), *self.recording.tensors]
        return [every[i] for i in traced.needed]


def observe(
    runner: Runner, layer: Any, x: Any, size: int, keep: Callable[[Any], Any]
) -> Observation:
    """Run the model once on n = ``size`` samples and note what passes a layer.

    ``keep`` makes of a tensor what the observation holds.
    """
    with one_at_a_time:
        return _observed(runner, layer, x, size, keep)


def _observed(
    runner: Runner, layer: Any, x: Any, size: int, keep: Callable[[Any], Any]
) -> Observation:
    call, activation = layer.call, layer.activation
    seen = Observation(Recording(runner.model, layer))

    def observed(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.inputs.append(keep(inputs))
        with having("activation", {layer: None}):
            output = call(inputs, *args, **kwargs)
        # If the layer runs several times, only its inputs are of use.
        if seen.output is None:
            seen.output, seen.dtype = keep(output), keras.backend.standardize_dtype(output.dtype)
        return output if activation is None else activation(output)

    with having("call", seen.recording.recording(observed)):
        seen.scores = keep(runner.run(x, size))
    return seen
