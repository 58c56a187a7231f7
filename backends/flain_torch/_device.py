"""What a device beside the CPU needs: arrays that it does not wait for, and exact products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from flain_core.backend_kit import switched, switches_of
from flain_core.network import Array

_MOST_PINNED = 2**20  # PyTorch keeps such memory for the life of the process


def brought(array: Array, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Bring an array to a device, which goes on with its work meanwhile if the array is small.

    Args:
        array: NumPy memory that a tensor may share.
        device: Where the tensor is wanted.
        dtype: The type that it shall have; None keeps the array's.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda" or tensor.nbytes > _MOST_PINNED:
        return tensor.to(device, dtype)
    # What is not pinned is copied only when everything before it is done.
    return tensor.to(dtype).pin_memory().to(device, non_blocking=True)


def single_precision(device: torch.device) -> AbstractContextManager[None]:
    """Multiply in float32, where a device would round factors to 10 bits (TensorFloat-32).

    PyTorch lets convolutions do so by default. A search compares scores that differ by less.
    """
    return switched(switches_of(torch)) if device.type == "cuda" else nullcontext()
