"""Layers of the private copy that answer differently inside a ``with`` block, never after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["answering", "without_activation"]


@contextmanager
def answering(calls: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Let some layers call these functions instead of their own ``call``.

    Keras looks ``call`` up on the layer, so an attribute of the one object is enough. Nested blocks
    must end in the opposite order, as ``with`` makes sure.
    """
    before = {layer: vars(layer).get("call") for layer in calls}
    try:
        for layer, call in calls.items():
            vars(layer)["call"] = call
        yield
    finally:
        for layer, call in before.items():
            if call is None:
                vars(layer).pop("call", None)
            else:
                vars(layer)["call"] = call


@contextmanager
def without_activation(layer: Any) -> Iterator[None]:
    """Leave a layer's activation out of its ``call``."""
    activation = layer.activation
    # An activation that is itself a layer is kept elsewhere on some engines: the instance's own
    # dictionary comes first on all of them.
    held = "activation" in vars(layer)
    vars(layer)["activation"] = None
    try:
        yield
    finally:
        if held:
            vars(layer)["activation"] = activation
        else:
            del vars(layer)["activation"]
