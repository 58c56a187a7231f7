"""A private copy of the caller's module, so that the caller's own can never be changed."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from flain_core.backend_kit import kind_of
from flain_core.errors import ModelError

_NO_MODULES = {
    "ExportedProgram": (
        "it holds a computation without layers, and so do its module() and "
        "torch.export.unflatten(program); give the nn.Module that was exported"
    ),
    "ScriptFunction": "open the Python module that it was made from",
}


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module in ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module


def private_copy(model: object) -> nn.Module:
    """Copy a module, wrappers left out, or say why it cannot be opened."""
    if not isinstance(model, nn.Module):
        advice = _NO_MODULES.get(type(model).__name__, "pass a torch.nn.Module")
        raise ModelError(f"cannot open {kind_of(model)} as a PyTorch model; {advice}")
    source = unwrapped(model)
    _refuse_unfit(source)
    # Tensors computed with gradients, such as a pruned weight, cannot be deep-copied themselves.
    memo: dict[int, object] = {
        id(value): value.detach().clone()
        for module in source.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        copied = deepcopy(source, memo)
    except Exception as error:
        raise ModelError(
            f"cannot copy the {type(source).__name__}: {error}; remove what it holds besides "
            "parameters, buffers and settings (open files, locks, tensors with gradients)"
        ) from error
    mine = {*map(id, source.modules()), *map(id, source.parameters())}
    if not mine.isdisjoint({*map(id, copied.modules()), *map(id, copied.parameters())}):
        raise ModelError(
            f"a deep copy of the {type(source).__name__} still shares modules or parameters with "
            "it, so it could not be left untouched; remove the __deepcopy__ that does this"
        )
    for parent in copied.modules():
        for name, child in parent._modules.items():
            if child is not None:
                parent._modules[name] = unwrapped(child)
    return copied


def _refuse_unfit(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "cannot open a TorchScript module: its layers cannot be observed; "
            "open the Python module that it was made from"
        )
    for name, module in model.named_modules():
        if "quantized" in type(module).__module__.split("."):
            raise ModelError(
                f"cannot open a quantized model: {name or 'it'!r} is {kind_of(module)}; "
                "purify the floating-point model, then quantize it"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ModelError(f"{name!r} has no shape yet; run the model on one batch first")
        if tensor.is_meta:
            raise ModelError(f"{name!r} is on the meta device; load the weights first")
