"""What a device beside the CPU needs: arrays that it does not wait for, and exact products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from flain_core.backend_kit import switched
from flain_core.network import Array


def brought(array: Array, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Bring an array to a device, which goes on with its work meanwhile.

    Args:
        array: NumPy memory that a tensor may share.
        device: Where the tensor is wanted.
        dtype: The type that it shall have; None keeps the array's.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device, dtype)
    # What is not pinned is copied only when everything before it is done.
    return tensor.pin_memory().to(device, dtype, non_blocking=True)


def single_precision(device: torch.device) -> AbstractContextManager[None]:
    """Multiply in float32, where a device would round factors to 10 bits (TensorFloat-32).

    PyTorch lets convolutions do so by default. A search compares scores that differ by less.
    """
    return switched(_switches()) if device.type == "cuda" else nullcontext()


def _switches() -> list[tuple[Any, str, object]]:
    """Return where PyTorch keeps its switches, and the value of each that keeps all bits."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(convolutions, "conv"):  # since PyTorch 2.9, which wants one kind of switch only
        places = (products, convolutions.conv, convolutions.rnn)
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(products, "allow_tf32", False), (convolutions, "allow_tf32", False)]
