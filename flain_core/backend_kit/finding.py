"""Finds a layer, or the reason why it is refused, and the output that holds the scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from flain_core.errors import LayerError, ModelError, nearest

Entry = TypeVar("Entry")
"""A layer as a backend keeps it; a string in its place is the reason why it is refused."""


def usable(entries: Mapping[str, Entry | str]) -> dict[str, Entry]:
    """Return the layers that can be purified, by name.

    >>> usable({"fc1": 1, "fc2": "it is quantized"})
    {'fc1': 1}
    """
    return {name: entry for name, entry in entries.items() if not isinstance(entry, str)}


def refusals(entries: Mapping[str, Entry | str]) -> dict[str, str]:
    """Return why the other layers are refused, by name.

    >>> refusals({"fc1": 1, "fc2": "it is quantized"})
    {'fc2': 'it is quantized'}
    """
    return {name: entry for name, entry in entries.items() if isinstance(entry, str)}


def find_layer(entries: Mapping[str, Entry | str], name: str) -> Entry:
    """Return the entry of a layer.

    Args:
        entries: For each layer of the model its entry, or the reason why it is refused.
        name: The layer.

    Raises:
        LayerError: It is refused, or there is none of that name.

    >>> find_layer({"fc1": 1, "fc2": "it is quantized"}, "fc2")
    Traceback (most recent call last):
        ...
    flain_core.errors.LayerError: layer 'fc2' cannot be purified: it is quantized
    """
    entry = entries.get(name)
    if isinstance(entry, str):
        raise LayerError(f"layer {name!r} cannot be purified: {entry}")
    if entry is None:
        found = ", ".join(map(repr, usable(entries))) or "no layer with a weight"
        refused = ", ".join(map(repr, refusals(entries)))
        others = f", and {refused}, which cannot be purified" if refused else ""
        raise LayerError(
            f"no dense or convolutional layer is called {name!r}; the model has {found}{others}."
            f"{nearest(name, entries)}"
        )
    return entry


def chosen_output(names: Collection[str], chosen: str | int, how: str) -> str:
    """Return the name of the output that holds the scores.

    Args:
        names: The model's outputs.
        chosen: The name or the position of one.
        how: How to choose another, for the message.

    Raises:
        ModelError: There is no such output.

    >>> chosen_output(["features", "logits"], 1, "open_network(model, scores=name)")
    'logits'
    """
    if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(names):
        return list(names)[chosen]
    if isinstance(chosen, str) and chosen in names:
        return chosen
    hint = nearest(chosen, names) if isinstance(chosen, str) else ""
    raise ModelError(
        f"the model has no output {chosen!r}; it has {', '.join(map(repr, names)) or 'none'}."
        f"{hint} Choose one with {how}"
    )
