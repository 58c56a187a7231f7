"""Which layers of a model can be purified, under which names, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._kinds import Kind, kernel_of, kind_of

__all__ = ["Entry", "catalogue", "free_name"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A layer that can be purified."""

    layer: Any
    kind: Kind


def catalogue(model: Any) -> dict[str, Entry | str]:
    """List the dense and convolutional layers of a model, in its order.

    Returns:
        For each name the layer, or the reason why it is refused. A layer inside another is called
        ``"outer/inner"``; where two have the same name, the later ones get ``"#2"`` and so on.
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
        if isinstance(kind, Kind) and owners[id(kernel_of(layer))] > 1:
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
    """The name, or one like ``"name#2"`` if it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"
