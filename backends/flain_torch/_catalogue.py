"""The layers of a module: those that can be purified, and why the others cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from flain_core.errors import WeightsError

from ._layers import WeightLayer, assign_weight, weight_of


def shared_parameters(module: nn.Module) -> Mapping[str, str]:
    """Pair the name of every parameter that others share or view with the name of one of them."""
    names = defaultdict(list)
    tensors = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    for name, tensor in tensors:
        if tensor.numel() and tensor.layout is torch.strided:
            names[tensor.device, tensor.data_ptr()].append(name)
    shared = {
        name: next(other for other in group if other != name)
        for group in names.values()
        if len(group) > 1
        for name in group
    }
    views = _memories_of_attributes(module)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.layout is torch.strided and parameter.numel():
            memory = parameter.untyped_storage()._cdata
            if memory in views:
                shared.setdefault(name, views[memory])
    return shared


def _memories_of_attributes(module: nn.Module) -> dict[int, str]:
    """Return the memory that plain tensor attributes view, with the name of such an attribute."""
    return {
        value.untyped_storage()._cdata: f"{prefix}.{name}".lstrip(".")
        for prefix, submodule in module.named_modules()
        for name, value in vars(submodule).items()
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested
    }


def catalogue(model: nn.Module, shared: Mapping[str, str]) -> dict[str, WeightLayer | str]:
    """List the dense and convolutional layers by name, in the order of the model.

    Args:
        model: The module to look through.
        shared: What :func:`shared_parameters` says about it.

    Returns:
        For each name the layer, or the reason why it is refused. A model that is itself a layer
        goes by the name of its class.
    """
    entries: dict[str, WeightLayer | str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, WeightLayer):
            entries[name or type(module).__name__] = _refusal(model, name, module, shared) or module
    return entries


def _refusal(
    model: nn.Module, name: str, layer: WeightLayer, shared: Mapping[str, str]
) -> str | None:
    parent = model.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        return "nn.MultiheadAttention uses its weight without ever calling it"
    if "weight_g" in layer._parameters:
        return "old-style weight_norm computes its weight; call torch.nn.utils.remove_weight_norm"
    if "weight_orig" in layer._parameters:
        return (
            "pruning or old-style spectral_norm computes its weight; call "
            "torch.nn.utils.prune.remove(layer, 'weight') or torch.nn.utils.remove_spectral_norm"
        )
    for own, _ in layer.named_parameters():
        owned = f"{name}.{own}".lstrip(".")
        if (own == "weight" or own.startswith("parametrizations.weight.")) and owned in shared:
            return f"it shares {owned!r} with {shared[owned]!r}; flipping one would change both"
    weight = layer.weight
    if type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point():
        return (
            f"its weight is a {type(weight).__name__} of {getattr(weight, 'dtype', 'no type')}, "
            "not a plain floating-point tensor"
        )
    if parametrize.is_parametrized(layer, "weight") and not _takes_any_weight(name, layer):
        return (
            "its parametrization does not take arbitrary weights; call "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )
    return None


def _takes_any_weight(name: str, layer: WeightLayer) -> bool:
    trial = deepcopy(layer)
    try:
        # A multiple other than 1: a normalising parametrization would accept its own weight.
        assign_weight(name, trial, -1.5 * weight_of(layer))
    except (WeightsError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True
