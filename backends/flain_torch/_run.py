"""One forward pass, the way all of this backend makes it, and the scores in its result."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import RLock

import torch
from torch import Tensor, nn

from flain_core.errors import FlainError, ModelError
from flain_core.network import Array

from ._batch import TorchBatch
from ._layers import wide

# The switches below are global: two threads would restore each other's settings.
_one_run_at_a_time = RLock()


def run(module: nn.Module, batch: TorchBatch) -> Tensor:
    """Return the scores ``(n, ...)`` of a batch, which stays as it is."""
    args, kwargs = batch.copies()
    with _one_run_at_a_time, _observable(), _buffers_kept(module):
        try:
            result = module(*args, **kwargs)
        except FlainError:
            raise
        except Exception as error:
            raise ModelError(
                f"the {type(module).__name__} failed on data of shape {batch}: "
                f"{type(error).__name__}: {error}{batch.advice}"
            ) from error
    return _scores_in(result, batch.size)


def scores_array(scores: Tensor) -> Array:
    """Copy scores into float32 or float64 NumPy memory of their own."""
    array: Array = on_cpu(scores, copy=True).numpy()
    return array


def on_cpu(scores: Tensor, *, copy: bool = False) -> Tensor:
    """Return scores in float32 or float64 that NumPy can read, copied only if they have to be."""
    return scores.detach().to("cpu", wide(scores.dtype), copy=copy)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo what a run does to buffers, so that no trace of the samples stays in the model."""
    before = [
        (submodule, name, buffer, buffer._version, buffer.clone())
        for submodule in module.modules()
        for name, buffer in submodule._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for submodule, name, buffer, version, copy in before:
            if submodule._buffers.get(name) is not buffer or buffer._version != version:
                submodule._buffers[name] = copy


@contextmanager
def _observable() -> Iterator[None]:
    """No gradients, and neither fused attention nor compiled code, which bypass the layers."""
    # Importing the compiler takes seconds, and where nobody has, nothing is compiled.
    compiler = "torch._dynamo" in sys.modules
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        eager = torch.compiler.set_stance("force_eager") if compiler else nullcontext()
        with torch.no_grad(), eager:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _scores_in(result: object, size: int) -> Tensor:
    """Return the scores ``(n, ...)`` in what a module returned for n = ``size`` samples.

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
