"""The kinds of layers that can be purified, and reading and assigning their weights."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from flain_core.backend_kit import exchange_channels, fitting_weight, not_finite, read_only
from flain_core.errors import WeightsError
from flain_core.network import Array

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
WeightLayer: TypeAlias = nn.Linear | Convolution | TransposedConvolution
"""The kinds of layers, subclasses included."""

_NUMPY_TYPES = (torch.float16, torch.float32, torch.float64)


def exchanged(layer: WeightLayer, weight: Tensor) -> Tensor:
    """Turn a weight of ``layer`` into ``(out, in / groups, *kernel)``, or one of those back."""
    if isinstance(layer, TransposedConvolution):
        weight = exchange_channels(weight, layer.groups)
    return weight


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def array_of(tensor: Tensor) -> Array:
    """Return a tensor in main memory; float32 for floating-point types that NumPy lacks."""
    values = tensor.detach().cpu()
    lacking = values.is_floating_point() and values.dtype not in _NUMPY_TYPES
    array: Array = (values.float() if lacking else values).numpy()
    return array


def weight_of(layer: WeightLayer) -> Array:
    """Return the weight ``(out, in / groups, *kernel)``, in the types of :func:`array_of`."""
    with torch.no_grad():
        return read_only(array_of(exchanged(layer, layer.weight)))


def assign_weight(name: str, layer: WeightLayer, weight: Array) -> None:
    """Give ``layer`` the weight ``(out, in / groups, *kernel)``, rounded once to its type."""
    with torch.no_grad():
        present = layer.weight
        shape = tuple(exchanged(layer, present).shape)
        given = torch.from_numpy(fitting_weight(name, weight, shape, np.float64))
        wanted = exchanged(layer, given).to(present.device, present.dtype)
        if not torch.isfinite(wanted).all():
            raise not_finite(name, wanted.dtype)
        if parametrize.is_parametrized(layer, "weight"):
            # Copying into the computed tensor would be lost; assigning goes through the inverse.
            layer.weight = wanted
        else:
            present.copy_(wanted)
        rounding = 32 * torch.finfo(wanted.dtype).eps * wanted.abs().amax() if wanted.numel() else 0
        if not ((layer.weight - wanted).abs() <= rounding).all():
            raise WeightsError(
                f"layer {name!r} did not take its new weight: a parametrization changed it; call "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') first"
            )
