"""Turning the caller's arrays into the tensors that a module is run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flain_core.errors import DataError
from flain_core.network import Batch


@dataclass(frozen=True, eq=False)
class TorchBatch:
    """The arguments that a module is called with for ``size`` samples."""

    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    size: int

    def copies(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return arguments that a module may overwrite."""
        return (
            tuple(tensor.clone() for tensor in self.args),
            {name: tensor.clone() for name, tensor in self.kwargs.items()},
        )

    def __str__(self) -> str:
        tensors = (*self.args, *self.kwargs.values())
        return ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors)

    @property
    def advice(self) -> str:
        """Advice for the message if a module fails on the arguments."""
        if all(t.dtype != torch.int64 for t in (*self.args, *self.kwargs.values())):
            return ""
        return (
            "; integers are passed on as int64: if they are pixels, scale them as in training and "
            "convert them to floating point first"
        )


def as_batch(x: Batch, module: nn.Module) -> TorchBatch:
    """Move a batch to the module's device and its floating-point numbers to the module's type.

    Args:
        x: An array or tensor ``(n, ...)``, a tuple of them (positional arguments), or a dict of
            them (keyword arguments). Integers become int64.
        module: The module that the batch is for.
    """
    args = () if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    kwargs = x if isinstance(x, Mapping) else {}
    first: Any = next(chain(args, kwargs.values()), None)
    if not np.shape(first):
        raise DataError(
            "expected a batch to be an array (n, ...), or a tuple or dict of arrays; it is or "
            f"starts with a {type(first).__name__}"
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
        # A copy in a type and byte order that torch knows; it rejects read-only memory too.
        known = np.int64 if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")
        value = torch.from_numpy(array.astype(known))
    tensor = value.detach()
    if tensor.is_floating_point():
        return tensor.to(like.device, like.dtype)
    return tensor.to(like.device, torch.bool if tensor.dtype == torch.bool else torch.int64)
