"""Reading and assigning the weight of a layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from flain_core.errors import WeightsError
from flain_core.network import Array

from ._kinds import WeightLayer
from ._orientation import canonical, torch_layout

__all__ = ["as_array", "assign_weight", "weight_of"]

_NUMPY_TYPES = (torch.float16, torch.float32, torch.float64)


def as_array(tensor: Tensor) -> Array:
    """The tensor in main memory; float32 for floating-point types that NumPy lacks."""
    values = tensor.detach().cpu()
    lacking = values.is_floating_point() and values.dtype not in _NUMPY_TYPES
    array: Array = (values.float() if lacking else values).numpy()
    return array


def weight_of(layer: WeightLayer) -> Array:
    """The weight ``(out, in / groups, *kernel)``, read only; float32 for types NumPy lacks."""
    with torch.no_grad():
        array = as_array(canonical(layer, layer.weight))
    array.flags.writeable = False
    return array


def assign_weight(name: str, layer: WeightLayer, weight: Array) -> None:
    """Give ``layer`` the weight ``(out, in / groups, *kernel)``, rounded once to its type."""
    with torch.no_grad():
        present = layer.weight
        expected = tuple(canonical(layer, present).shape)
        if np.shape(weight) != expected:
            raise WeightsError(
                f"the weight of layer {name!r} must have shape {expected}, not {np.shape(weight)}"
            )
        given = torch.tensor(np.asarray(weight, dtype=np.float64))
        wanted = torch_layout(layer, given).to(present.device, present.dtype)
        if not torch.isfinite(wanted).all():
            raise WeightsError(
                f"the weight for layer {name!r} is not finite in {present.dtype}: it holds NaN or "
                "numbers out of range; convert the model to a wider type first"
            )
        if parametrize.is_parametrized(layer, "weight"):
            # Copying into the computed tensor would be lost; assigning goes through the inverse.
            layer.weight = wanted
        else:
            present.copy_(wanted)
        if not _same(layer.weight, wanted):
            raise WeightsError(
                f"layer {name!r} did not take its new weight: a parametrization changed it; call "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') first"
            )


def _same(actual: Tensor, wanted: Tensor) -> bool:
    rounding = 32 * torch.finfo(wanted.dtype).eps * wanted.abs().amax() if wanted.numel() else 0
    return bool(((actual - wanted).abs() <= rounding).all())
