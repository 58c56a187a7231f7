"""A forward pass from a batch to the scores, the way every part of this backend makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import keras
import numpy as np

from flain_core.backend_kit import (
    AS_TRAINED,
    check_in_range,
    chosen_output,
    kind_of,
    shortened,
)
from flain_core.errors import DataError, FlainError, ModelError
from flain_core.network import Batch

from ._engine import dtype_of, no_gradients

one_at_a_time = RLock()
"""Lets one thread at a time run a model, or copy one that another thread may run.

Whoever observes a run has layers answer differently meanwhile, in a model that several networks and
threads may share.
"""

_CHOOSE = "flain_keras.open_network(model, scores=name) (--scores on the command line)"


@dataclass(frozen=True, eq=False)
class Runner:
    """A model, evaluated under other values of some variables without ever being changed.

    Attributes:
        model: A private copy.
        scores: The name or the position of the output with the scores; None if there is but one.
        replaced: Variables of the model, each with the tensor to use in place of its value.
    """

    model: Any
    scores: str | int | None
    replaced: Sequence[tuple[Any, Any]] = ()

    def run(self, x: Any, size: int) -> Any:
        """Return the scores ``(n, ...)`` of n = ``size`` samples, a tensor of the engine."""
        # The scope keeps moving averages, seeds and collected losses as they are, too.
        with one_at_a_time, no_gradients(), keras.StatelessScope(self.replaced):
            try:
                # Eagerly: a traced predict() would pass patched layers by.
                result = self.model(x, training=False)
            except FlainError:
                raise
            except Exception as error:
                shapes = [tuple(leaf.shape) for leaf in keras.tree.flatten(x)]
                raise ModelError(
                    f"the {type(self.model).__name__} failed on data of shape "
                    f"{', '.join(map(str, shapes))}: {type(error).__name__}: "
                    f"{_reason(error).rstrip('. ')}"
                    f"{_other_layout(shapes, self.model) or f'; {AS_TRAINED}'}"
                ) from error
            return self._scores_in(result, size)

    def _scores_in(self, result: Any, size: int) -> Any:
        outputs = _by_name(result, self.model)
        if self.scores is None and len(outputs) != 1:
            names = ", ".join(map(repr, outputs)) or "none"
            raise ModelError(
                f"the model has {len(outputs)} outputs, {names}; choose the one that holds the "
                f"scores with {_CHOOSE}"
            )
        chosen = 0 if self.scores is None else self.scores
        scores = outputs[chosen_output(outputs, chosen, _CHOOSE)]
        if not hasattr(scores, "shape") or not dtype_of(scores).startswith(("float", "bfloat")):
            raise ModelError(
                f"expected the model to return scores as a floating-point tensor; it returned "
                f"{type(scores).__name__}; wrap it in a model that returns the scores alone"
            )
        if not scores.shape or scores.shape[0] != size:
            raise ModelError(
                f"expected scores with one row for each of the {size} samples; the model returned "
                f"shape {tuple(scores.shape)}"
            )
        return scores


def _reason(error: Exception) -> str:
    """Leave out what Keras puts around the reason: where it was called, and with what arguments."""
    lines = str(error).partition("Arguments received by")[0].splitlines()
    told = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return shortened("\n".join(told)) or shortened(str(error))


def _other_layout(shapes: Sequence[tuple[int, ...]], model: Any) -> str:
    """Say how to turn images whose channels are where the model does not expect them."""
    try:
        expected = [tuple(each.shape) for each in keras.tree.flatten(model.inputs)]
    except (AttributeError, TypeError, ValueError):
        return ""  # a subclassed model knows no shapes
    for given, wanted in zip(shapes, expected, strict=False):
        if len(given) == len(wanted) == 4:
            turned = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)}
            for layout, order in turned.items():
                there = [given[axis] for axis in order]
                fits = all(w in (None, t) for w, t in zip(wanted[1:], there[1:], strict=True))
                differs = any(
                    w not in (None, g) for w, g in zip(wanted[1:], given[1:], strict=True)
                )
                if fits and differs:
                    other = "NCHW" if layout == "NHWC" else "NHWC"
                    return (
                        f". The model expects images as {layout}, {wanted}, and these look like "
                        f"{other}: give np.transpose(x, {order})"
                    )
    return ""


def _by_name(result: Any, model: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return {str(name): output for name, output in result.items()}
    outputs = keras.tree.flatten(result)
    names = getattr(model, "output_names", None) or []
    if len(names) != len(outputs) or len(set(names)) != len(names):
        names = [str(index) for index in range(len(outputs))]
    return dict(zip(names, outputs, strict=True))


def as_batch(x: Batch) -> tuple[Any, int]:
    """Turn a batch into tensors of the engine, and count its samples."""
    leaves = list(x.values()) if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    if not leaves or not np.shape(leaves[0]):
        raise DataError(
            "a batch must be an array (n, ...), or a tuple or dict of arrays; it is or starts with "
            f"{kind_of(leaves[0]) if leaves else 'nothing'}"
        )
    size = int(np.shape(leaves[0])[0])
    if isinstance(x, Mapping):
        return {name: _tensor(value) for name, value in x.items()}, size
    if isinstance(x, tuple):
        return tuple(map(_tensor, x)), size
    return _tensor(x), size


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        check_in_range(value, np.dtype("f8" if keras.config.floatx() == "float64" else "f4"))
        # Some engines know neither foreign byte orders nor read-only memory.
        value = np.array(value, dtype=value.dtype.newbyteorder("="))
    return keras.ops.convert_to_tensor(value)
