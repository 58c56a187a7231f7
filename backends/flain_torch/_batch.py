"""The caller's arrays, as the tensors a module can be run on."""

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

__all__ = ["TorchBatch", "as_batch"]


@dataclass(frozen=True, eq=False)
class TorchBatch:
    """What a module is called with for ``size`` samples."""

    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]
    size: int

    def copies(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Arguments that a module may overwrite."""
        return (
            tuple(tensor.clone() for tensor in self.args),
            {name: tensor.clone() for name, tensor in self.kwargs.items()},
        )

    def __str__(self) -> str:
        tensors = chain(self.args, self.kwargs.values())
        return ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors)

    @property
    def has_integers(self) -> bool:
        """Whether some argument holds integers, such as tokens or unscaled pixels."""
        return any(t.dtype == torch.int64 for t in chain(self.args, self.kwargs.values()))


def as_batch(x: Batch, module: nn.Module) -> TorchBatch:
    """Move a batch to the module's device and its floating-point numbers to the module's type.

    Args:
        x: An array or tensor ``(n, ...)``, a tuple of them (positional arguments), or a dict of
            them (keyword arguments). Integers become int64.
        module: The module that the batch is for.
    """
    args = () if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    kwargs = x if isinstance(x, Mapping) else {}
    anchor = _anchor(module)
    return TorchBatch(
        args=tuple(_tensor(value, anchor) for value in args),
        kwargs={str(name): _tensor(value, anchor) for name, value in kwargs.items()},
        size=_size(next(chain(args, kwargs.values()), None)),
    )


def _size(array: Any) -> int:
    shape = np.shape(array)
    if not shape:
        raise DataError(
            f"a batch must be an array (n, ...), or a tuple or dict of arrays; "
            f"it is or starts with a {type(array).__name__}"
        )
    return int(shape[0])


def _anchor(module: nn.Module) -> Tensor:
    """A tensor with the device and the floating-point type that the module expects."""
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.empty(0)


def _tensor(value: object, anchor: Tensor) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.from_numpy(_native(value))
    if tensor.is_floating_point():
        return tensor.to(anchor.device, anchor.dtype)
    if tensor.dtype == torch.bool:
        return tensor.to(anchor.device)
    return tensor.to(anchor.device, torch.int64)


def _native(value: object) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Copy into a type and byte order that torch knows; torch rejects read-only memory too."""
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind in "fb":
        return array.astype(array.dtype.newbyteorder("="))
    raise DataError(
        f"a batch must hold floating-point numbers, integers or booleans, not {array.dtype}"
    )
