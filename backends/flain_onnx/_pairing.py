"""Which layers of two exports of one network belong together.

Exporters name layers after counters, leave an untrained bias out, or list parallel branches in
another order, so that the same network is called and built differently in the two files. What stays
the same is the order of the layers branch by branch, what they do, and the shape of their weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as with_fields

from flain_core.errors import WeightsError

from ._catalogue import Entry

__all__ = ["renamed"]

_REMEDY = "export both with the same exporter, of the same version and with the same options"


def renamed(ours: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> dict[str, Entry]:
    """Our layers under the names, and in the order, of the layers they correspond to.

    Raises:
        WeightsError: They do not correspond one to one.
    """
    pairs = _by_name(ours, theirs) or _by_position(ours, theirs)
    for mine, its in pairs:
        if (mine.refusal is None) != (its.refusal is None):
            raise WeightsError(
                f"layer {its.name!r} cannot be purified in one of the two models, where "
                f"{mine.refusal or its.refusal}; {_REMEDY}"
            )
    return {its.name: with_fields(mine, name=its.name) for mine, its in pairs}


def _by_name(
    ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
) -> list[tuple[Entry, Entry]] | None:
    pairs = [(ours[name], its) for name, its in theirs.items() if name in ours]
    same = len(pairs) == len(ours) == len(theirs)
    return pairs if same and all(_alike(mine) == _alike(its) for mine, its in pairs) else None


def _by_position(
    ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
) -> list[tuple[Entry, Entry]]:
    if len(ours) != len(theirs):
        raise WeightsError(
            f"initial and final model have {len(ours)} and {len(theirs)} layers "
            f"({_list(ours)}; {_list(theirs)}), so they cannot be paired; {_REMEDY}"
        )
    pairs = list(zip(ours.values(), theirs.values(), strict=True))
    for position, (mine, its) in enumerate(pairs, start=1):
        if _alike(mine) != _alike(its):
            raise WeightsError(
                f"layer {position} is {_described(mine)} in the initial and {_described(its)} in "
                f"the final model, so they cannot be paired; {_REMEDY}"
            )
    return pairs


def _alike(entry: Entry) -> tuple[object, ...]:
    return entry.form.family, entry.shape, entry.form.groups


def _described(entry: Entry) -> str:
    return f"{entry.name!r} ({entry.form.family}, {'×'.join(map(str, entry.shape))})"


def _list(entries: Mapping[str, Entry]) -> str:
    return ", ".join(entries) or "none"
