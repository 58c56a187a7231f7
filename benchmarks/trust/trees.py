"""Mutates trees of dicts and lists, as JSON holds them: descriptions of models, and headers."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "\0", "../x", "a" * 5000, "\x1b[2J", "\ud800", [], {}),
    *(-1, 0, 1, 3, 2**31 - 1, 2**31, 2**63, 2**64, 10**9, 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf")),
)


def mutated(rng: Random, tree: Any, words: tuple[Any, ...] = ()) -> Any:
    """Return a copy of a tree with one to three changes; ``words`` are what its format has."""
    changed = {"root": deepcopy(tree)}
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(rng, changed, words)
    return changed["root"]


def text(rng: Random, tree: Any) -> bytes:
    """Write a tree as JSON, now and then nested without end or with a name twice."""
    written = json.dumps(tree)
    how = rng.random()
    if how < 0.03:
        written = written.replace("{", '{"a":' * rng.choice((500, 100_000)) + "{", 1)
    elif how < 0.06:
        depth = rng.choice((100, 5000, 200_000))
        written = written.replace("[", "[" * depth, 1)
    elif how < 0.08 and '"' in written:
        written = written.replace("{", "{" + written[1:-1][:300] + ",", 1)
    elif how < 0.1:
        written = written.replace("1", "1" * rng.choice((30, 5000)), 1)
    return written.encode("utf-8", "surrogatepass")


def _change(rng: Random, tree: dict[str, Any], words: tuple[Any, ...]) -> None:
    places = list(_places(tree))
    parent, key = rng.choice(places)
    how = rng.random()
    if how < 0.35:
        parent[key] = deepcopy(rng.choice(_VALUES))
    elif how < 0.55:
        parent[key] = deepcopy(rng.choice(words or _VALUES))
    elif how < 0.7:
        other, name = rng.choice(places)
        parent[key] = deepcopy(other[name])
    elif how < 0.8 and parent is not tree:
        del parent[key]
    elif how < 0.9 and isinstance(parent, list):
        parent.extend(deepcopy(parent[key]) for _ in range(rng.choice((1, 5, 200))))
    elif isinstance(parent[key], int):
        parent[key] *= rng.choice((-1, 2, 1000, 10**6, 10**12))
    else:
        for _ in range(rng.choice((1, 10, 80))):
            parent[key] = rng.choice(([parent[key]], {"config": parent[key]}))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every container with every key or index in it."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        each = left.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each))
        for key in keys:
            found.append((each, key))
            if isinstance(each[key], (dict, list)):
                left.append(each[key])
    return found
