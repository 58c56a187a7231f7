"""LoRA adapters in a module, found by the structure that PEFT gives them; PEFT is not imported.

An adapted layer computes ``base(x) + scaling * B(A(x))`` and only ``A`` and ``B`` are trained, so
the weight update is ``scaling * B A``, and it starts at zero. Every flip of inputs multiplies the
update by a matrix from the right, neuron by neuron or in directions. That multiplies ``A`` by it:
rank, shapes and ``B`` stay. Where there are at least as many ranks as classes, some directions of
the ranks are flipped more strongly than others; that changes ``A`` alone too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flain_core.errors import ModelError, WeightsError, listed

# With these PEFT starts from B = 0; with others from an adapter that it takes from the base weight,
# or from a random one.
_START_AT_ZERO = (True, None, "gaussian", "eva")


@dataclass(frozen=True, eq=False)
class Adapter:
    """The active adapter of one layer.

    Attributes:
        path: The name of ``a`` in the model.
        a: The adapter's first half, ``lora_A``.
        b: Its second half, ``lora_B``.
        base: The layer that is adapted.
        scaling: The factor of their product.
    """

    path: str
    a: nn.Module
    b: nn.Module
    base: nn.Module
    scaling: float

    @property
    def is_off(self) -> bool:
        """Whether it adds nothing, whatever ``a`` is."""
        return not self.scaling or not any(bool(each.any()) for each in self.b.parameters())


def adapters_in(model: nn.Module) -> dict[str, Adapter | str]:
    """Return the active adapter of each adapted layer by its name, or why it is refused."""
    return {
        name: _refusal(module) or _adapter(name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if _is_adapted(module)
    }


def _is_adapted(module: nn.Module) -> bool:
    """Whether a module has what PEFT's ``LoraLayer`` has."""
    halves = (getattr(module, "lora_A", None), getattr(module, "lora_B", None))
    return (
        all(isinstance(half, nn.ModuleDict) for half in halves)
        and isinstance(getattr(module, "base_layer", None), nn.Module)
        and isinstance(getattr(module, "scaling", None), Mapping)
    )


def _active(module: nn.Module) -> list[str]:
    """Return the active adapters of a layer, or of a module that is saved with them."""
    active: Any = getattr(module, "active_adapters", ())
    names = [active] if isinstance(active, str) else list(active)
    return [name for name in names if isinstance(name, str)]


def _adapter(name: str, module: Any) -> Adapter:
    (active,) = _of_layer(module)
    return Adapter(
        path=f"{name}.lora_A.{active}".lstrip("."),
        a=module.lora_A[active],
        b=module.lora_B[active],
        base=module.base_layer,
        scaling=float(module.scaling[active]),
    )


def _of_layer(module: Any) -> list[str]:
    return [name for name in _active(module) if name in module.lora_A or _embeds(module, name)]


def _embeds(module: nn.Module, adapter: str) -> bool:
    return adapter in getattr(module, "lora_embedding_A", ())


def _refusal(module: Any) -> str | None:
    if getattr(module, "merged_adapters", None):
        return (
            "its adapter is merged into the weight; call unmerge_adapter() first, or "
            "merge_and_unload() on the initial and the final model and purify those"
        )
    if getattr(module, "disable_adapters", False):
        return "its adapter is disabled; call enable_adapter_layers() first"
    active = _of_layer(module)
    if not active:
        return "no adapter of it is active; call set_adapter(name) first"
    if len(active) > 1:
        return (
            f"several adapters are active ({', '.join(active)}), and its update is their sum; call "
            "set_adapter(name) and purify one after the other"
        )
    return _variant(module, active[0])


def _variant(module: Any, adapter: str) -> str | None:
    """Return why an adapter is not the product of two layers, if so."""
    if _embeds(module, adapter):
        return "its adapter looks rows up, so no neurons enter it"
    if isinstance(module.base_layer, nn.MultiheadAttention):
        return "nn.MultiheadAttention uses its adapter without ever calling it"
    variant = getattr(module, "lora_variant", {}).get(adapter)
    magnitudes = getattr(module, "lora_magnitude_vector", ())
    if getattr(module, "use_dora", {}).get(adapter) or adapter in magnitudes:
        return (
            "DoRA scales the sum of base weight and update, so lora_A alone does not flip the "
            "update; call merge_and_unload() on the initial and the final model and purify those"
        )
    if variant is not None:
        return (
            f"its adapter is of the variant {type(variant).__name__}, whose update may be another "
            "than scaling * B A; call merge_and_unload() on the initial and the final model and "
            "purify those"
        )
    return None


def turn_off(model: nn.Module) -> None:
    """Give a model what it had before its adapters were trained; its structure stays.

    Raises:
        ModelError: It has no adapter, or one that did not start at zero.
    """
    found = adapters_in(model)
    adapters = [each for each in found.values() if isinstance(each, Adapter)]
    if found and not adapters:
        reasons = listed([f"{name!r}: {why}" for name, why in found.items()], "; ", most=3)
        raise ModelError(f"no LoRA adapter of the model can be purified: {reasons}")
    if not adapters:
        raise ModelError(
            "initial=None stands for the model with its LoRA adapter off, and the "
            f"{type(model).__name__} has no LoRA adapter that is active; give the model that "
            "training started from"
        )
    for name, start in _starts(model):
        if start not in _START_AT_ZERO:
            raise ModelError(
                f"the adapter {name!r} did not start at zero (init_lora_weights={start!r}), so "
                "initial=None is not what training started from; convert it to an ordinary LoRA "
                "adapter with PEFT's save_pretrained(..., "
                "path_initial_model_for_weight_conversion=...) first"
            )
    with torch.no_grad():
        for adapter in adapters:
            for parameter in adapter.b.parameters():
                parameter.zero_()
    for trained, original in _saved_with(model):
        trained.load_state_dict(original.state_dict())


def _starts(model: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield how each adapter was initialised, as far as the model tells."""
    configs = getattr(model, "peft_config", {})
    for name, config in configs.items() if isinstance(configs, Mapping) else ():
        start = getattr(config, "init_lora_weights", None)
        yield str(name), True if start == "true" else start


def _saved_with(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the modules that are trained and saved as a whole, each with its original."""
    for module in model.modules():
        original, copies = original_of(module), getattr(module, "modules_to_save", None)
        if original is not None and isinstance(copies, nn.ModuleDict):
            yield from ((copies[name], original) for name in _active(module) if name in copies)


def adapter_names(model: nn.Module) -> dict[str, str]:
    """Pair the names that tensors have in an adapter's file with those in the state dict.

    They come in PEFT's order: the halves of the adapters, then what is saved with them. None where
    several adapters are active, as each has a file of its own.
    """
    adapted = [module for module in model.modules() if _is_adapted(module)]
    active = {name for module in adapted for name in _of_layer(module)}
    if len(active) != 1:
        return {}
    (adapter,) = active
    halves, whole = {}, {}
    for name in model.state_dict():
        parts = name.split(".")
        for place in (at for at, part in enumerate(parts[1:], 1) if part == adapter):
            before, after = parts[:place], parts[place + 1 :]
            if before[-1].startswith("lora_"):
                halves[".".join([*before, *after])] = name
            elif before[-1] == "modules_to_save":
                whole[".".join([*before[:-1], *after])] = name
    return halves | whole


def original_of(module: nn.Module) -> nn.Module | None:
    """Return what PEFT keeps, and never calls, of a module that is trained and saved whole."""
    original = getattr(module, "original_module", None)
    copies = getattr(module, "modules_to_save", None)
    is_kept = isinstance(original, nn.Module) and isinstance(copies, nn.ModuleDict)
    return original if is_kept and _active(module) else None


def check_start(name: str, trained: Adapter | str | None, started: Adapter | str | None) -> None:
    """Refuse an initial adapter from which the update is not ``lora_A`` less an initial one.

    Args:
        name: The layer.
        trained: Its adapter in the final model.
        started: Its adapter in the initial model.

    Raises:
        WeightsError: Changing ``lora_A`` alone cannot flip the update.
    """
    if not isinstance(trained, Adapter) or not isinstance(started, Adapter):
        return
    if not _alike(trained.base, started.base):
        raise WeightsError(
            f"the weight that {name!r} adapts differs between initial and final model, so the "
            "adapter is not all that training changed; call merge_and_unload() on both and purify "
            "those"
        )
    kept = _alike(trained.b, started.b) and trained.scaling == started.scaling
    if not (started.is_off or kept):
        raise WeightsError(
            f"the initial adapter of {name!r} is neither off (its lora_B zero) nor does it have "
            "the lora_B of the final one, so changing lora_A alone cannot flip what training "
            "added. Give initial=None if it is to be all that the adapter adds, or call "
            "merge_and_unload() on both models and purify those"
        )


def _alike(one: nn.Module, other: nn.Module) -> bool:
    mine, its = (list(each.state_dict().items()) for each in (one, other))
    return len(mine) == len(its) and all(
        name == its_name and _equal(value, its_value)
        for (name, value), (its_name, its_value) in zip(mine, its, strict=True)
    )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one.cpu(), other.cpu())
    return one is other


def is_within(name: str, names: Collection[str]) -> bool:
    """Return whether a module lies within one of some others.

    >>> is_within("fc1.lora_A.default", ["fc1"]), is_within("fc10", ["fc1"])
    (True, False)
    """
    parts = name.split(".")
    return any(".".join(parts[:end]) in names for end in range(len(parts)))
