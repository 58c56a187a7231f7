"""One forward pass, the way every part of this backend makes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock

import torch
from torch import Tensor, nn

from flain_core.errors import FlainError, ModelError

from ._batch import TorchBatch
from ._scores import scores_in

__all__ = ["run"]

# The switches below are global: two threads would restore each other's settings.
_one_run_at_a_time = RLock()


def run(module: nn.Module, batch: TorchBatch) -> Tensor:
    """The scores ``(n, ...)`` of a batch, which stays as it is."""
    args, kwargs = batch.copies()
    with _one_run_at_a_time, _observable(), _buffers_kept(module):
        try:
            result = module(*args, **kwargs)
        except FlainError:
            raise
        except Exception as error:
            raise ModelError(
                f"the {type(module).__name__} failed on data of shape {batch}: "
                f"{type(error).__name__}: {error}{_advice(batch)}"
            ) from error
    return scores_in(result, batch.size)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo what a run does to buffers, so that no trace of the samples stays in the model."""
    before = [
        (part, name, buffer, buffer._version, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for part, name, buffer, version, copy in before:
            if part._buffers.get(name) is not buffer or buffer._version != version:
                part._buffers[name] = copy


@contextmanager
def _observable() -> Iterator[None]:
    """No gradients, and neither fused attention nor compiled code, which bypass the layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), _eager():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _eager() -> AbstractContextManager[object]:
    # Importing the compiler takes seconds, and where nobody has, nothing is compiled.
    if "torch._dynamo" in sys.modules:
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def _advice(batch: TorchBatch) -> str:
    if batch.has_integers:
        return (
            "; integers are passed on as int64: if they are pixels, scale them as in training and "
            "convert them to floating point first"
        )
    return ""
