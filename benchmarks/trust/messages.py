"""Mutates messages between a server and trusted clients: arrays by name, and what stands for them.

A message is kept as JSON, so that one which failed can be read again from a file.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np

from . import raw

_TYPES = ("<f2", "<f4", ">f8", "<f8", "<i8", "|u1", "<u8", "|b1", "<c16", "<U3", "|S4", "<M8[s]")
_NAMES = (
    *(
        "task",
        "layer",
        "factor",
        "order",
        "window",
        "n_flipped",
        "probes",
        "seed",
        "loss",
        "outputs",
    ),
    *("initial", "weight of fc1", "weight of nothing", "weight of ", "trained 0", "trained 1", "x"),
    *("trained -1", "count", "active", "total", "faithful", "why", "error", "clean", "\x1b[2J"),
)
_TEXTS = (
    "statistics",
    "proof",
    "candidates",
    "in full",
    "fc1",
    "fc2",
    "logits",
    "\x1b[2J",
    "",
    "ü",
)
_PLAIN: tuple[Any, ...] = (None, 0, -1, 1.5, "text", [], [1, 2], {}, True)
_NUMBERS = (0.0, -1.0, 1.0, 2.0, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2.0**53, 2.0**63)


def written(arrays: Mapping[str, Any]) -> bytes:
    """Write a message, its arrays with their types and shapes."""
    return json.dumps({name: _kept(each) for name, each in arrays.items()}).encode()


def read(content: bytes) -> dict[str, Any]:
    """Read a message that :func:`written` wrote."""
    return {name: _restored(each) for name, each in json.loads(content).items()}


def mutated(rng: Random, content: bytes) -> bytes:
    """Return a message with one to three changes."""
    arrays = read(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(arrays) or ["task"])
        how = rng.random()
        if how < 0.08:
            arrays.pop(name, None)
        elif how < 0.2:
            arrays[rng.choice(_NAMES)] = arrays.get(name)
        elif how < 0.25:
            arrays[name] = rng.choice(_PLAIN)
        elif how < 0.35:
            told = rng.choice(_TEXTS).encode() * rng.choice((1, 1, 1, 200))
            arrays[name] = np.frombuffer(told, np.uint8)
        else:
            arrays[name] = _changed(rng, arrays.get(name))
    return written(arrays)


def _changed(rng: Random, value: Any) -> Any:
    array = np.asarray(value) if isinstance(value, np.ndarray) else np.zeros(3)
    how = rng.random()
    if how < 0.3 and array.size and array.dtype.kind in "fiu":
        changed = array.copy()
        with np.errstate(all="ignore"):
            chosen = np.asarray(rng.choice(_NUMBERS)).astype(array.dtype)
        changed.reshape(-1)[rng.randrange(array.size)] = chosen
        return changed
    if how < 0.5:
        # Some types cannot become some others.
        with np.errstate(all="ignore"), suppress(RuntimeError, ValueError, TypeError):
            return (
                array.astype(rng.choice(_TYPES), casting="unsafe") if array.size < 10**5 else array
            )
        return array
    if how < 0.7:
        shapes = ((), (0,), (1,), (3,), (2, 3), (1, 1, 1), (0, 5), (1000,), (1,) * 32)
        return np.resize(array, rng.choice(shapes))
    if how < 0.8:
        return np.concatenate([array.reshape(-1)] * rng.choice((2, 10)))
    if how < 0.9:
        return array.T
    content = raw.mutated(rng, array.tobytes() or b"\0")
    size = array.dtype.itemsize or 1
    return np.frombuffer(content[: len(content) // size * size], array.dtype)


def _kept(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return {"plain": value}
    content = b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"dtype": value.dtype.str, "shape": value.shape, "content": content}


def _restored(kept: dict[str, Any]) -> Any:
    if "plain" in kept:
        return kept["plain"]
    numbers = np.frombuffer(b64decode(kept["content"]), np.dtype(kept["dtype"]))
    return numbers.reshape(kept["shape"]).copy()
