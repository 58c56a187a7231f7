"""A recording of what ran before a layer, so that it need not run again."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask

_Calls = Mapping[Any, Callable[..., Any]]


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
        return [
            leaf
            for _, output in self._finished or ()
            for leaf in keras.tree.flatten(output)
            if not keras.ops.is_tensor(leaf)
        ]

    @property
    def _outputs(self) -> list[Any]:
        return [
            leaf
            for _, output in self._finished or ()
            for leaf in keras.tree.flatten(output)
            if keras.ops.is_tensor(leaf)
        ]

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


def _replayed(layer: Any, outputs: deque[Any]) -> Callable[..., Any]:
    call = layer.call

    def replayed(*args: Any, **kwargs: Any) -> Any:
        # Later calls of a layer that ran before and after the cut depend on it.
        return outputs.popleft() if outputs else call(*args, **kwargs)

    return replayed
