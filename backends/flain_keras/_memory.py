"""A memory of what batches taught about a network's layers, so that later ones go faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np

from flain_core.network import Array

from ._engine import as_array
from ._observation import Observation, observe
from ._run import Runner
from ._tail import Tail
from ._trace import Traced, compiled

_WORTH_COMPILING = 4
_AGREEMENT = 1e-4
_COMPARABLE = (bool, int, float, str, type(None))

Head: TypeAlias = Callable[[Any], tuple[Any, Any, Any, list[Any]]]
"""A function of a batch that gives what enters the layer, its pre-activation, the scores, and what
the tail reads besides the pre-activation."""


@dataclass(eq=False)
class Learned:
    """The knowledge that goes for every batch of one shape.

    Attributes:
        before: The layers that ran before the layer, the shapes and types of the tensors that they
            gave, and what else they gave.
        traced: The tail.
        batches: The number of batches seen.
        head: The way up to the layer, compiled; None before it pays.
    """

    before: list[Any]
    traced: Traced
    batches: int = 0
    head: Head | None = None

    def serves(self, tail: Tail, x: Any, seen: Observation) -> bool:
        """Let a tail take over the trace, if that is right for this batch too."""
        # Where other layers ran before, the tail is another.
        return self.before == before(seen) and tail.take(
            self.traced, seen.beside(x, self.traced), seen.output, seen.scores
        )

    def note(self, runner: Runner, layer: Any, x: Any, size: int, seen: Observation) -> None:
        """Count a batch, and compile the way up to the layer as soon as that pays.

        The compiled way is only taken if it gives for this batch what was observed.
        """
        self.batches += 1
        if self.batches != _WORTH_COMPILING:
            return

        def head(x: Any) -> tuple[Any, Any, Any, list[Any]]:
            again = observe(runner, layer, x, size, keep=lambda tensor: tensor)
            return again.inputs[0], again.output, again.scores, again.beside(x, self.traced)

        fast = compiled(head)
        if fast is None:
            return
        try:
            inputs, output, scores, beside = fast(x)
        # The model's own code runs here, on tensors without values, and fails in its own ways.
        except Exception:
            return
        mine = [inputs, output, scores, *beside]
        its = [seen.inputs[0], seen.output, seen.scores, *seen.beside(x, self.traced)]
        if all(map(_agree, mine, its)):
            self.head = fast


Memory: TypeAlias = dict[Any, Learned]
"""The knowledge that batches gave, by layer and shape of the batch: by :func:`key_of`."""


def key_of(layer: str, x: Any) -> Any:
    # Equal shapes in a dict and in a tuple may stand in another order.
    structure = keras.tree.map_structure(lambda _: None, x)
    return layer, str(structure), *_forms(keras.tree.flatten(x))


def before(seen: Observation) -> list[Any]:
    """Return what :attr:`Learned.before` holds."""
    recording = seen.recording
    # What cannot be compared counts as different.
    plain = [leaf if isinstance(leaf, _COMPARABLE) else object() for leaf in recording.plain]
    return [*map(id, recording.layers), *_forms(recording.tensors), *plain]


def _forms(tensors: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(tuple(tensor.shape), str(tensor.dtype)) for tensor in tensors]


def _agree(one: Any, other: Any) -> bool:
    mine, its = _array(one), _array(other)
    scale = float(np.abs(its).max(initial=0.0)) if its.dtype.kind == "f" else 0.0
    return mine.shape == its.shape and np.allclose(mine, its, rtol=0, atol=_AGREEMENT * scale)


def _array(tensor: Any) -> Array:
    return tensor if isinstance(tensor, np.ndarray) else as_array(tensor)
