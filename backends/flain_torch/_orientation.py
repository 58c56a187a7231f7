"""Between the layouts and number types of torch and the canonical ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ._kinds import TransposedConvolution, WeightLayer

__all__ = ["canonical", "torch_layout", "wide"]


def canonical(layer: WeightLayer, weight: Tensor) -> Tensor:
    """Turn a weight of ``layer`` into ``(out, in / groups, *kernel)``, a view where possible."""
    return _swapped(weight, layer.groups) if isinstance(layer, TransposedConvolution) else weight


def torch_layout(layer: WeightLayer, weight: Tensor) -> Tensor:
    """Turn ``(out, in / groups, *kernel)`` into the layout of ``layer``."""
    return _swapped(weight, layer.groups) if isinstance(layer, TransposedConvolution) else weight


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _swapped(weight: Tensor, groups: int) -> Tensor:
    """Exchange the two channel axes ``(g·a, b, *kernel) -> (g·b, a, *kernel)`` in each group.

    It undoes itself.
    """
    first, second, *kernel = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *kernel)
    return grouped.transpose(1, 2).reshape(groups * second, first // groups, *kernel)
