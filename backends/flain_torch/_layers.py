"""The layers of a module: which can be purified, why the others cannot, and their weights."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from copy import deepcopy
from itertools import chain
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from flain_core.backend_kit import (
    RECURRENT,
    exchange_channels,
    fitting_bias,
    fitting_weight,
    kind_of,
    not_finite,
    read_only,
)
from flain_core.errors import WeightsError
from flain_core.network import Array

from ._lora import Adapter, is_within, original_of
from ._tape import memory_of

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
WeightLayer: TypeAlias = nn.Linear | Convolution | TransposedConvolution
"""The kinds of layers, subclasses included; and :func:`is_transposed_dense`."""

Recurrent: TypeAlias = nn.RNNBase | nn.RNNCellBase
"""Layers that are refused, subclasses included."""

_COMPUTES_A_LAYER = re.compile(r"(linear|addmm|conv\d?d?|convolution|conv_transpose\dd)(\.|$)")
_AXES_OF_DENSE = 2
_NUMPY_TYPE_OF = {torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64}


def is_dense(layer: nn.Module) -> bool:
    """Return whether a layer is no convolution, whatever the axes of its weight."""
    return not isinstance(layer, Convolution | TransposedConvolution)


def is_transposed_dense(module: nn.Module) -> bool:
    """Return whether a module is the dense layer of GPT-2, with a weight ``(in, out)``.

    The Transformers library calls it ``Conv1D``; it is told by its structure.
    """
    weight = getattr(module, "weight", None)
    return (
        any(cls.__name__ == "Conv1D" for cls in type(module).__mro__)
        and isinstance(weight, Tensor)
        and weight.dim() == _AXES_OF_DENSE
        and weight.shape[1] == getattr(module, "nf", None)
    )


def exchanged(layer: WeightLayer, weight: Tensor) -> Tensor:
    """Turn a weight of ``layer`` into ``(out, in / groups, *kernel)``, or one of those back."""
    if isinstance(layer, TransposedConvolution):
        weight = exchange_channels(weight, layer.groups)
    return weight.t() if is_transposed_dense(layer) else weight


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute in: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def array_of(tensor: Tensor) -> Array:
    """Return a tensor in main memory; float32 for floating-point types that NumPy lacks."""
    values = tensor.detach().cpu()
    lacking = values.is_floating_point() and values.dtype not in _NUMPY_TYPE_OF
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


def in_place_of(name: str, layer: WeightLayer, weight: Array) -> nn.Parameter | None:
    """Return a parameter to put in place of the weight of ``layer``; None if none can be put there.

    It takes over the memory of a weight that nobody can write to, so a large one is not copied.
    """
    present = dict(layer.named_parameters(recurse=False)).get("weight")
    dtype = _NUMPY_TYPE_OF.get(layer.weight.dtype)
    plain = (
        type(present) is nn.Parameter
        and present.device.type == "cpu"
        and present.is_contiguous()
        and isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    )
    if not plain or present is None or dtype is None or weight.dtype != dtype:
        return None
    fitted = fitting_weight(name, weight, tuple(present.shape), dtype)
    writeable = fitted.flags.writeable
    # PyTorch warns of memory that is read only. Nobody writes to it, a copy is handed out.
    fitted.flags.writeable = True
    try:
        tensor = torch.from_numpy(fitted)
    finally:
        fitted.flags.writeable = writeable
    return nn.Parameter(tensor, requires_grad=present.requires_grad)


def bias_of(name: str, layer: WeightLayer, shared: Mapping[str, str]) -> Array | None:
    """Return the bias ``(out,)`` in the types of :func:`array_of`; None if it cannot be replaced.

    ``name`` is the layer's in the model, empty for the model itself; ``shared`` is what
    :func:`shared_parameters` says.
    """
    # Pruned and parametrized ones are computed, so they are no parameters of the layer.
    bias = dict(layer.named_parameters(recurse=False)).get("bias")
    if type(bias) is not nn.Parameter or not bias.is_floating_point() or bias.dim() != 1:
        return None
    return None if f"{name}.bias".lstrip(".") in shared else read_only(array_of(bias))


def assign_bias(name: str, layer: WeightLayer, bias: Array, present: Array | None) -> None:
    """Give ``layer`` the bias ``(out,)``, rounded once to its type.

    ``present`` is what :func:`bias_of` says of it.
    """
    with torch.no_grad():
        fitted = torch.from_numpy(fitting_bias(name, bias, present, np.float64))
        kept = cast(Tensor, layer.bias)
        wanted = fitted.to(kept.device, kept.dtype)
        if not torch.isfinite(wanted).all():
            raise not_finite(name, wanted.dtype, "bias")
        kept.copy_(wanted)


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
    attributes = {
        memory_of(value): f"{prefix}.{name}".lstrip(".")
        for prefix, submodule in module.named_modules()
        for name, value in vars(submodule).items()
        if isinstance(value, Tensor)
    }
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if memory_of(parameter) in attributes:
            shared.setdefault(name, attributes[memory_of(parameter)])
    return shared


def catalogue(
    model: nn.Module, shared: Mapping[str, str], adapters: Mapping[str, Adapter | str]
) -> dict[str, WeightLayer | str]:
    """Return the dense and convolutional layers, or why these and others are refused, in order.

    ``shared`` is what :func:`shared_parameters` says, ``adapters`` what
    :func:`~flain_torch._lora.adapters_in` does: an adapted layer stands for the first half of its
    adapter. A model that is itself a layer goes by the name of its class.
    """
    entries: dict[str, WeightLayer | str] = {}
    originals: set[str] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if original_of(module) is not None:
            originals.add(f"{name}.original_module".lstrip("."))
        if is_within(name, adapters):
            continue
        if name in adapters:
            entries[name or type(module).__name__] = _adapted(model, adapters[name], shared)
        elif isinstance(module, WeightLayer | Recurrent) or is_transposed_dense(module):
            named = name or type(module).__name__
            if name in originals or is_within(name, originals):
                entries[named] = "it is what PEFT keeps of a module that is trained as a whole"
            elif isinstance(module, Recurrent):
                entries[named] = RECURRENT
            else:
                layer = cast("WeightLayer", module)
                entries[named] = _refusal(model, name, layer, shared) or layer
    return entries | _traced(model, taken=entries)


def _adapted(
    model: nn.Module, adapter: Adapter | str, shared: Mapping[str, str]
) -> WeightLayer | str:
    if isinstance(adapter, str):
        return adapter
    if not isinstance(adapter.a, WeightLayer):
        return f"its lora_A is a {type(adapter.a).__name__}, no dense layer and no convolution"
    return _refusal(model, adapter.path, adapter.a, shared) or adapter.a


def _traced(model: nn.Module, taken: Collection[str]) -> dict[str, str]:
    """Return the layers that a traced graph computes without a module for them, as refused ones."""
    found: dict[str, str] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, fx.GraphModule):
            continue
        for node in module.graph.nodes:
            function = getattr(node.target, "__name__", "")
            name = f"{prefix}.{node.name}".lstrip(".")
            if node.op == "call_function" and _COMPUTES_A_LAYER.match(function):
                found[name] = (
                    f"a traced graph computes it with the function {function}, without a module "
                    "that could be observed; give the nn.Module that was exported or traced"
                )
    return {name: reason for name, reason in found.items() if name not in taken}


def _refusal(
    model: nn.Module, name: str, layer: WeightLayer, shared: Mapping[str, str]
) -> str | None:
    parent = model.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        return "nn.MultiheadAttention uses its weight without ever calling it"
    parameters = dict(layer.named_parameters())
    if "weight_g" in parameters:
        return "old-style weight_norm computes its weight; call torch.nn.utils.remove_weight_norm"
    if "weight_orig" in parameters:
        return (
            "pruning or old-style spectral_norm computes its weight; call "
            "torch.nn.utils.prune.remove(layer, 'weight') or torch.nn.utils.remove_spectral_norm"
        )
    for own in parameters:
        owned = f"{name}.{own}".lstrip(".")
        if (own == "weight" or own.startswith("parametrizations.weight.")) and owned in shared:
            return f"it shares {owned!r} with {shared[owned]!r}; flipping one would change both"
    weight = layer.weight
    if type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point():
        return (
            f"its weight is {kind_of(weight)} of {getattr(weight, 'dtype', 'no type')}, "
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
