"""What a run found, in a form that JSON holds, and the tables that it is shown in."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from .children import KINDS
from .disks import Tried
from .formats import FORMATS
from .fuzz import Counted
from .interrupts import Interrupted
from .kills import Killed
from .writers import WRITERS

Results: TypeAlias = dict[str, Any]

_COLUMNS = ("mutants", "read", "refused", "other", "crashed", "hung", "over memory", "side effects")
_LIBRARIES = ("numpy", "torch", "safetensors", "onnx", "onnxruntime", "keras", "h5py", "flwr")
Rows: TypeAlias = list[list[str]]


def gathered(
    counted: Sequence[Counted] = (),
    killed: Sequence[Killed] = (),
    tried: Sequence[Tried] = (),
    interrupted: Interrupted | None = None,
    *,
    seed: int,
) -> Results:
    """Put together what a run found, which may be a part of all there is."""
    return {
        "seed": seed,
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        "mutants": {each.format: {kind: each.counts[kind] for kind in KINDS} for each in counted},
        "kills": {
            each.format: {
                "kills": each.kills,
                "old": each.old,
                "new": each.new,
                "faults": each.faults,
            }
            for each in killed
        },
        "tried": [
            {"what": each.what, "format": each.format, "fault": each.fault} for each in tried
        ],
        "interrupts": vars(interrupted or Interrupted()),
    }


def merged(before: Results, now: Results) -> Results:
    """Return the results of an earlier run, with those parts replaced that a new one has."""
    both = before | now
    for part, order in (("mutants", FORMATS), ("kills", WRITERS)):
        found = before.get(part, {}) | now[part]
        both[part] = {name: found[name] for name in order if name in found}
    both["tried"] = now["tried"] or before.get("tried", [])
    if not now["interrupts"]["presses"]:
        both["interrupts"] = before.get("interrupts", now["interrupts"])
    return both


def faults(results: Results) -> list[str]:
    """Return in words whatever is not as it is promised."""
    found = [
        f"{name}: {number} {kind}"
        for name, counts in results["mutants"].items()
        for kind, number in counts.items()
        if number and kind not in ("read", "refused")
    ]
    found += [
        f"{name}, killed: {fault}"
        for name, each in results["kills"].items()
        for fault in each["faults"]
    ]
    found += [
        f"{each['what']}, {each['format']}: {each['fault']}"
        for each in results["tried"]
        if each["fault"]
    ]
    return found + [f"Ctrl-C {fault}" for fault in results["interrupts"]["faults"]]


def tables(results: Results) -> dict[str, Rows]:
    """Return the tables by title, each with its head first and its sums last."""
    return {
        "Mutants": _mutants(results["mutants"]),
        "Kills": _kills(results["kills"]),
        "Everything else": _rest(results),
    }


def in_markdown(rows: Rows) -> str:
    """Write a table as a page has it, numbers on the right."""
    head, *rest = rows
    dashes = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, dashes, *rest)) + "\n"


def _mutants(found: Mapping[str, Mapping[str, int]]) -> Rows:
    rows = [
        [name, *_numbers((sum(counts.values()), *(counts[kind] for kind in KINDS)))]
        for name, counts in found.items()
    ]
    sums = [sum(counts[kind] for counts in found.values()) for kind in KINDS]
    return [["format", *_COLUMNS], *rows, ["**all**", *_numbers((sum(sums), *sums))]]


def _kills(found: Mapping[str, Mapping[str, Any]]) -> Rows:
    rows = [
        [name, *_numbers((each["kills"], each["old"], each["new"], len(each["faults"])))]
        for name, each in found.items()
    ]
    keys = ("kills", "old", "new")
    sums = [sum(each[key] for each in found.values()) for key in keys]
    half = sum(len(each["faults"]) for each in found.values())
    head = ["what is written", "kills", "old afterwards", "new afterwards", "half or stray"]
    return [head, *rows, ["**all**", *_numbers((*sums, half))]]


def _rest(results: Results) -> Rows:
    rows, tried = [["what", "times", "not as promised"]], results["tried"]
    for what in dict.fromkeys(each["what"] for each in tried):
        mine = [each for each in tried if each["what"] == what]
        rows.append([what, *_numbers((len(mine), sum(bool(each["fault"]) for each in mine)))])
    pressed = results["interrupts"]
    rows.append(["Ctrl-C", *_numbers((pressed["presses"], len(pressed["faults"])))])
    return rows


def _numbers(numbers: Iterable[int]) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
