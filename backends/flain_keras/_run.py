"""One forward pass, the way every part of this backend makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from flain_core.errors import DataError, FlainError, ModelError
from flain_core.network import Array, Batch

from ._engine import no_gradients
from ._kinds import kernel_of
from ._scores import scores_in

__all__ = ["Runner", "as_batch"]


@dataclass(frozen=True, eq=False)
class Runner:
    """A model, evaluated under replaced kernels without ever being changed.

    Attributes:
        model: A private copy.
        scores: Which of its outputs holds the scores.
        kernels: For some layers another kernel, in Keras's layout.
    """

    model: Any
    scores: str | int | None
    kernels: Mapping[Any, Array] = field(default_factory=dict)

    def run(self, x: Any, size: int) -> Any:
        """The scores ``(n, ...)`` of n = ``size`` samples, a tensor of the engine."""
        replaced = [(kernel_of(layer), kernel) for layer, kernel in self.kernels.items()]
        # The scope keeps moving averages, seeds and collected losses as they are, too.
        with no_gradients(), keras.StatelessScope(replaced):
            try:
                # Eagerly: a traced predict() would pass patched layers by.
                result = self.model(x, training=False)
            except FlainError:
                raise
            except Exception as error:
                raise ModelError(
                    f"the {type(self.model).__name__} failed on data of shape {_shapes(x)}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            return scores_in(result, self.model, self.scores, size)


def as_batch(x: Batch) -> tuple[Any, int]:
    """Turn a batch into tensors of the engine, and count its samples.

    Args:
        x: An array ``(n, ...)``, or a tuple or dict of them for models of several inputs.
    """
    leaves = list(x.values()) if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    if not leaves or not np.shape(leaves[0]):
        raise DataError(
            "a batch must be an array (n, ...), or a tuple or dict of arrays; it is or starts with "
            f"a {type(leaves[0]).__name__ if leaves else 'nothing'}"
        )
    size = int(np.shape(leaves[0])[0])
    if isinstance(x, Mapping):
        return {name: _tensor(value) for name, value in x.items()}, size
    if isinstance(x, tuple):
        return tuple(map(_tensor, x)), size
    return _tensor(x), size


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # Some engines know neither foreign byte orders nor read-only memory.
        value = np.array(value, dtype=value.dtype.newbyteorder("="))
    return keras.ops.convert_to_tensor(value)


def _shapes(x: Any) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in keras.tree.flatten(x))
