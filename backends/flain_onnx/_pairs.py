"""Pairs the layers of two files that hold one network.

Exporters name layers after counters, leave an untrained bias out, or list parallel branches in
another order, so that the same network is called and built differently in two files. What stays the
same is the order of the layers branch by branch, what they do, and the shape of their weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from flain_core.errors import WeightsError

from ._layers import Entry

_REMEDY = "export both with the same exporter, of the same version and with the same options"


def renamed(ours: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return our layers under the names, and in the order, of the layers they correspond to."""
    if ours.keys() == theirs.keys() and all(ours[name].work == theirs[name].work for name in ours):
        pairs = [(ours[name], name) for name in theirs]
    else:
        _check_order(ours, theirs)
        pairs = list(zip(ours.values(), theirs, strict=True))
    for mine, name in pairs:
        its = theirs[name]
        if (mine.refusal is None) != (its.refusal is None):
            raise WeightsError(
                f"layer {name!r} cannot be purified in one of the two models, where "
                f"{mine.refusal or its.refusal}; {_REMEDY}"
            )
    return {name: mine for mine, name in pairs}


def _check_order(ours: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> None:
    if len(ours) != len(theirs):
        raise WeightsError(
            f"initial and final model have {len(ours)} and {len(theirs)} layers "
            f"({_list(ours)}; {_list(theirs)}), so they cannot be paired; {_REMEDY}"
        )
    for position, mine, its in zip(count(1), ours, theirs):
        if ours[mine].work != theirs[its].work:
            raise WeightsError(
                f"layer {position} is {_described(mine, ours[mine])} in the initial and "
                f"{_described(its, theirs[its])} in the final model, so they cannot be paired; "
                f"{_REMEDY}"
            )


def _described(name: str, entry: Entry) -> str:
    return f"{name!r} ({entry.form.family}, {'×'.join(map(str, entry.shape))})"


def _list(entries: Mapping[str, Entry]) -> str:
    return ", ".join(entries) or "none"
