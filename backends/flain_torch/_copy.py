"""A private copy of the caller's module, so that the caller's own can never be changed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from flain_core.backend_kit import CHANGED_MEANWHILE, kind_of
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


def private_copy(model: object, *, borrow: bool = False) -> nn.Module:
    """Copy a module, wrappers left out, or say why it cannot be opened.

    Args:
        model: The module.
        borrow: Let the parameters of the copy lie where those of the module do, as far as they are
            plain ones, until :func:`own` is called. Such a copy must not be run.
    """
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
    if borrow and _switches_plainly(source):
        memo |= {id(each): _borrowed(each) for each in source.parameters() if _is_plain(each)}
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
    _check_unchanged(source, copied)
    for parent in copied.modules():
        for name, child in parent._modules.items():
            if child is not None:
                parent._modules[name] = unwrapped(child)
    return copied


def versions_of(module: nn.Module) -> dict[str, int]:
    """Return how often each parameter was written to, by whoever else it lies with included."""
    return {name: parameter._version for name, parameter in _plain_parameters(module)}


def own(module: nn.Module, versions: Mapping[str, int]) -> None:
    """Give the parameters of a private copy memory of their own, so that it can be run.

    Raises:
        ModelError: Their owner changed one since it had these versions.
    """
    borrowed = {name: parameter.detach() for name, parameter in _plain_parameters(module)}
    with torch.no_grad():
        for _, parameter in _plain_parameters(module):
            parameter.data = parameter.data.clone()
    for name, parameter in _plain_parameters(module):
        now = borrowed[name]
        if now._version != versions[name] or not _same_bits(now, parameter):
            raise ModelError(f"{name!r} {CHANGED_MEANWHILE}")


def _plain_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, each) for name, each in module.named_parameters() if _is_plain(each)]


def borrow_from(state: Mapping[str, Any], module: nn.Module) -> None:
    """Let parameters of a private copy lie where equal tensors of a state dict do."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            given = state.get(name)
            if _is_plain(parameter) and isinstance(given, Tensor) and _same(parameter, given):
                parameter.data = given.detach()


def _same(parameter: Tensor, given: Tensor) -> bool:
    kinds = [(each.dtype, each.device, each.shape, each.layout) for each in (parameter, given)]
    if kinds[0] != kinds[1] or type(given) not in (Tensor, nn.Parameter):
        return False
    return parameter.stride() == given.stride() and torch.equal(parameter, given.detach())


def _is_plain(parameter: Tensor) -> bool:
    plain = type(parameter) is nn.Parameter and parameter.layout is torch.strided
    # Nobody counts how often those of torch.inference_mode() are written to.
    return plain and not parameter.is_inference()


def _borrowed(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)


def _switches_plainly(model: nn.Module) -> bool:
    """Return whether going to evaluation mode writes to no parameter, as some adapters' does."""
    return all(
        type(module).train is nn.Module.train and type(module).eval is nn.Module.eval
        for module in model.modules()
    )


def _check_unchanged(source: nn.Module, copied: nn.Module) -> None:
    """Refuse a copy of which some was taken before a step of training and some after it.

    If every tensor still is what was copied, all were so at one moment: when the last was copied.
    """
    mine = _tensors(copied)
    for name, tensor in _tensors(source).items():
        if name in mine and not _same_bits(tensor, mine[name]):
            raise ModelError(f"{name!r} {CHANGED_MEANWHILE}")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, NaN among them, if they can be compared."""
    if not all(type(each.data) is Tensor and each.layout is torch.strided for each in (one, other)):
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    bits = (each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other))
    return torch.equal(*bits)


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
