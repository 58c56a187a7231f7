"""Knows which models were purified before: those made in this process, and marked files.

Purifying a purified model with the same initial one flips its updates back, and the backdoor with
them. What was made here is known by the hashes of its purified weights, so copies, arrays, and
files that other libraries wrote are recognised too, and no object of the caller's is touched.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flain_core.errors import ModelError, WeightsError
from flain_core.network import Layer, Network
from flain_core.outcome.layer import LayerOutcome

from .fingerprint import of_tensor
from .mark import read_mark

_REMEMBERED_AT_MOST = 100_000
# Insertion order is age; the values say nothing.
_made_here: dict[bytes, None] = {}
_carried: dict[int, tuple[weakref.ref[Any], str | bytes]] = {}

_REASON = (
    "purifying it again with the same initial model flips the updates back, and may bring back the "
    "backdoor"
)
_REMEDY = (
    "Give the model as it was before (several layers can be purified at once: name them all), "
    "or, if you mean it, say again=True (--again on the command line)"
)


def remember(purified: Network, outcomes: Iterable[LayerOutcome]) -> None:
    """Remember the weights of the layers that were flipped."""
    layers = purified.layers()
    for outcome in outcomes:
        if outcome.share:
            _made_here[of_tensor(layers[outcome.name].weight)] = None
    while len(_made_here) > _REMEMBERED_AT_MOST:
        del _made_here[next(iter(_made_here))]


def carry(model: Any, mark: str | bytes | None) -> None:
    """Remember the mark of the file that a model was read from, for as long as the model lives."""
    if mark is None:
        return
    key = id(model)
    _carried[key] = weakref.ref(model, lambda _: _carried.pop(key, None)), mark


def carried(model: Any) -> str | bytes | None:
    """Return the mark of the file that a model was read from; None if it had none.

    >>> from flain_numpy import Network
    >>> model = Network([])
    >>> carry(model, "a mark")
    >>> carried(model), carried(Network([]))
    ('a mark', None)
    """
    known = _carried.get(id(model))
    return known[1] if known and known[0]() is model else None


def check_not_purified(
    mark: str | bytes | None,
    final: Mapping[str, Layer],
    initial: Mapping[str, Layer],
    *,
    again: bool,
) -> str | None:
    """Refuse a model that was purified before.

    Args:
        mark: The mark that the model's file carries; None for none.
        final: The layers of the model that is to be purified.
        initial: Those of the model that training started from.
        again: Whether the caller insists.

    Returns:
        A note on what was done before, if the caller insists; None for a model that was not
        purified before, as far as is known.

    Raises:
        ModelError: The model was purified before.
    """
    before = _by_mark(mark) or _by_weights(final, initial)
    if before is None:
        return None
    if again:
        return f"the model was purified before ({before}), and again now, as was asked for"
    raise ModelError(f"the model was purified before: {before}; {_REASON}. {_REMEDY}")


def _by_mark(text: str | bytes | None) -> str | None:
    if text is None:
        return None
    try:
        return read_mark(text)
    except WeightsError as error:
        return str(error)


def _by_weights(final: Mapping[str, Layer], initial: Mapping[str, Layer]) -> str | None:
    if not _made_here:
        return None
    for name, layer in final.items():
        start = initial.get(name)
        if start is not None and np.array_equal(layer.weight, start.weight):
            continue  # it was trained on from there, and this layer was not
        if of_tensor(layer.weight) in _made_here:
            return f"the weight of {name!r} is one that this process purified"
    return None
