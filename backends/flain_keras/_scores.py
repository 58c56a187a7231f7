"""Where in a model's result the scores are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from flain_core.errors import ModelError

from ._engine import dtype_of

__all__ = ["scores_in"]


def scores_in(result: Any, model: Any, chosen: str | int | None, size: int) -> Any:
    """Find the scores ``(n, ...)`` in what a model returned for n = ``size`` samples.

    Args:
        result: A tensor, or a list, tuple or dict of tensors.
        model: Knows the names of its outputs, if it is a functional one.
        chosen: The name or the position of an output; None if there is but one.
        size: How many samples the model was given.
    """
    outputs = _by_name(result, model)
    if chosen is None and len(outputs) == 1:
        scores = next(iter(outputs.values()))
    elif chosen is None:
        raise ModelError(
            f"the model has {len(outputs)} outputs, {_listed(outputs)}; choose the one that holds "
            "the scores with flain_keras.open_network(model, scores=name) (--scores on the command "
            "line)"
        )
    else:
        scores = _chosen(outputs, chosen)
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


def _by_name(result: Any, model: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return {str(name): output for name, output in result.items()}
    outputs = keras.tree.flatten(result)
    names = getattr(model, "output_names", None) or []
    if len(names) != len(outputs) or len(set(names)) != len(names):
        names = [str(index) for index in range(len(outputs))]
    return dict(zip(names, outputs, strict=True))


def _chosen(outputs: dict[str, Any], chosen: str | int) -> Any:
    if isinstance(chosen, int) and 0 <= chosen < len(outputs):
        return list(outputs.values())[chosen]
    if chosen in outputs:
        return outputs[str(chosen)]
    raise ModelError(f"the model has no output {chosen!r}; it has {_listed(outputs)}")


def _listed(outputs: dict[str, Any]) -> str:
    return ", ".join(map(repr, outputs)) or "none"
