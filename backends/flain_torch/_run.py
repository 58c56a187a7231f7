"""One forward pass, the way every part of this backend makes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from flain_core.errors import FlainError, ModelError

from ._batch import TorchBatch
from ._scores import scores_in

__all__ = ["run"]


def run(module: nn.Module, batch: TorchBatch) -> Tensor:
    """The scores ``(n, ...)`` of a batch, which stays as it is."""
    args, kwargs = batch.copies()
    with _observable():
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
