"""Where in a module's result the scores are."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flain_core.errors import ModelError
from flain_core.network import Array

from ._orientation import wide

__all__ = ["as_array", "on_cpu", "scores_in"]


def scores_in(result: object, size: int) -> Tensor:
    """Find the scores ``(n, ...)`` in what a module returned for n = ``size`` samples.

    That is the tensor itself, the attribute or entry ``logits``, the only entry of a dict, or the
    first of a tuple or list.
    """
    scores = _main(result)
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise ModelError(
            f"expected the model to return scores as a floating-point tensor, a tuple or list that "
            f"starts with one, or an object or dict with 'logits'; it returned {_kind(result)}; "
            "wrap the model in a module that returns the scores alone"
        )
    if scores.dim() == 0 or scores.shape[0] != size:
        raise ModelError(
            f"expected scores with one row for each of the {size} samples; "
            f"the model returned shape {tuple(scores.shape)}"
        )
    return scores


def as_array(scores: Tensor) -> Array:
    """Copy scores into float32 or float64 NumPy memory of their own."""
    array: Array = on_cpu(scores, copy=True).numpy()
    return array


def on_cpu(scores: Tensor, *, copy: bool = False) -> Tensor:
    """Scores in float32 or float64 that NumPy can read, in their own memory where that will do."""
    return scores.detach().to("cpu", wide(scores.dtype), copy=copy)


def _main(result: object) -> object:
    if isinstance(result, Tensor):
        return result
    if isinstance(result, Mapping):
        if "logits" in result:
            return result["logits"]
        return next(iter(result.values())) if len(result) == 1 else None
    if hasattr(result, "logits"):
        return result.logits
    if isinstance(result, tuple | list) and result:
        return result[0]
    return None


def _kind(result: object) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of {str(result.dtype).removeprefix('torch.')}"
    if isinstance(result, Mapping):
        return f"a {type(result).__name__} with the entries {list(result)}"
    if isinstance(result, tuple | list) and result:
        return f"a {type(result).__name__} that starts with {_kind(result[0])}"
    return f"a {type(result).__name__}"
