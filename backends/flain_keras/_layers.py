"""The layers of a model by name, their weights, and kernels to put in place of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from flain_core.backend_kit import fitting_weight, not_finite, read_only
from flain_core.network import Array

from ._engine import as_array, dtype_of
from ._kinds import Kind, kind_of


@dataclass(frozen=True, eq=False)
class Entry:
    """A layer that can be purified."""

    layer: Any
    kind: Kind

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape ``(out, in / groups, *kernel)`` of its weight."""
        return tuple(self.kind.canonical(np.empty(self.layer.kernel.shape)).shape)


def catalogue(model: Any) -> dict[str, Entry | str]:
    """Return the dense and convolutional layers, or why they are refused, in the model's order.

    A layer inside another is called ``"outer/inner"``; where two have the same name, the later ones
    get ``"#2"`` and so on.
    """
    owners = Counter(
        id(variable)
        for layer in model._flatten_layers()
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables)
    )
    entries: dict[str, Entry | str] = {}
    for name, layer in _named(model, "", set()):
        kind = kind_of(layer)
        if kind is None:
            continue
        if isinstance(kind, Kind) and owners[id(layer.kernel)] > 1:
            kind = "another layer uses the same kernel; flipping it would change both"
        entries[free_name(name, entries)] = kind if isinstance(kind, str) else Entry(layer, kind)
    return entries


def _named(parent: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for layer in parent._flatten_layers(recursive=False, include_self=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        # A Sequential keeps its layers a second time, in a Functional that it made for itself.
        if layer is getattr(parent, "_functional", None):
            continue
        yield prefix + layer.name, layer
        yield from _named(layer, f"{prefix}{layer.name}/", seen)


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name, or one like ``"name#2"`` if it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def array_in(tensor: Any) -> Array:
    """Copy a tensor in its own type; bfloat16, which NumPy lacks, becomes float32."""
    array = as_array(tensor)
    return array.astype(np.float16) if dtype_of(tensor) == "float16" else array


def weight_in(entry: Entry, kernel: Any) -> Array:
    """Copy the weight ``(out, in / groups, *kernel)`` out of a kernel tensor. Read only."""
    return read_only(entry.kind.canonical(array_in(kernel)))


def kernel_for(name: str, entry: Entry, weight: Array) -> Any:
    """Make a kernel tensor of a weight ``(out, in / groups, *kernel)``, in the layer's type."""
    dtype = entry.layer.kernel.dtype
    in_numpy = dtype != "bfloat16"
    fitted = fitting_weight(name, weight, entry.shape, dtype if in_numpy else np.float64)
    with np.errstate(over="ignore"):
        # Not every engine takes float64.
        given = fitted if in_numpy else fitted.astype(np.float32)
    kernel = ops.convert_to_tensor(np.ascontiguousarray(entry.kind.keras_layout(given)), dtype)
    if not in_numpy and not np.isfinite(as_array(kernel)).all():
        raise not_finite(name, dtype)
    return kernel
