"""Makes one forward pass, from the caller's arrays to scores, for all of this backend."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flain_core.backend_kit import AS_TRAINED, check_in_range, kind_of
from flain_core.errors import DataError, FlainError, ModelError
from flain_core.network import Array, Batch

from ._device import single_precision
from ._layers import wide

one_at_a_time = RLock()
"""Lets one thread at a time run a module, or copy one that another thread may run.

The switches below are global: two threads would restore each other's settings. And whoever observes
a run hooks into the module, which several networks and threads may share.
"""


@dataclass(frozen=True, eq=False)
class TorchBatch:
    """The arguments that a module is called with for ``size`` samples."""

    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    size: int

    def __str__(self) -> str:
        tensors = (*self.args, *self.kwargs.values())
        return ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors)

    @property
    def device(self) -> torch.device:
        return next(tensor.device for tensor in (*self.args, *self.kwargs.values()))

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.args, *self.kwargs.values()))

    @property
    def advice(self) -> str:
        if all(t.dtype != torch.int64 for t in (*self.args, *self.kwargs.values())):
            return f"; {AS_TRAINED}"
        return (
            "; integers are passed on as int64: if they are pixels, scale them as in training and "
            "convert them to floating point first"
        )


# Bytes of the widest number that torch knows.
_WIDEST = 8


def as_batch(x: Batch, module: nn.Module) -> TorchBatch:
    """Move a batch to the module's device and its floating-point numbers to the module's type.

    A tuple holds positional arguments, a dict keyword arguments. Integers become int64.
    """
    args = () if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    kwargs = x if isinstance(x, Mapping) else {}
    first: Any = next(chain(args, kwargs.values()), None)
    if not np.shape(first):
        raise DataError(
            "expected a batch to be an array (n, ...), or a tuple or dict of arrays; it is or "
            f"starts with {kind_of(first)}"
        )
    state = chain(module.parameters(), module.buffers())
    like = next((tensor for tensor in state if tensor.is_floating_point()), torch.empty(0))
    return TorchBatch(
        args=tuple(_argument(value, like) for value in args),
        kwargs={str(name): _argument(value, like) for name, value in kwargs.items()},
        size=len(first),
    )


def _argument(value: object, like: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise DataError(
                "expected a batch to hold floating-point numbers, integers or booleans; got "
                f"{array.dtype}"
            )
        check_in_range(array, like.dtype, torch.finfo(like.dtype).max)
        # A copy in a type and byte order that torch knows; it rejects read-only memory too.
        known = array.dtype.newbyteorder("=")
        if known.kind in "iu":
            known = np.dtype(np.int64)
        elif known.itemsize > _WIDEST:
            known = np.dtype(np.float64)
        value = torch.from_numpy(array.astype(known))
    tensor = value.detach()
    if tensor.is_floating_point():
        return tensor.to(like.device, like.dtype)
    return tensor.to(like.device, torch.bool if tensor.dtype == torch.bool else torch.int64)


def run(module: nn.Module, batch: TorchBatch) -> Tensor:
    """Return the scores ``(n, ...)`` of a batch, which stays as it is."""
    # A module may overwrite its arguments.
    args = [tensor.clone() for tensor in batch.args]
    kwargs = {name: tensor.clone() for name, tensor in batch.kwargs.items()}
    exact = single_precision(batch.device)
    with one_at_a_time, _observable(), exact, _buffers_kept(module):
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


def scores_array(scores: Tensor, *, copy: bool = True) -> Array:
    """Return scores in float32 or float64, in NumPy memory of their own if they are copied."""
    array: Array = scores.detach().to("cpu", wide(scores.dtype), copy=copy).numpy()
    return array


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


def _main(result: Any) -> object:
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
        return f"{kind_of(result)} with the entries {list(result)}"
    if isinstance(result, tuple | list) and result:
        return f"{kind_of(result)} that starts with {_kind(result[0])}"
    return kind_of(result)
