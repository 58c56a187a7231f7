"""Makes mutants of every format, and counts how reading them ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .children import HARMLESS, Children, Files, Kind, Outcome
from .file_formats import HDF5_TRIAL
from .formats import FORMATS
from .prepared import Prepared

FAILED = Path(__file__).with_name("failed")
_MOST_MEMORY = 2**30
# Each HDF5 file is read first in a process of its own.
_WEIGHT, _WEIGHTS = 3, {".keras": 1, ".h5": 1}


@dataclass
class Counted:
    """What became of the mutants of one format."""

    format: str
    counts: Counter[Kind] = field(default_factory=Counter)
    failed: list[tuple[Path, Outcome]] = field(default_factory=list)

    @property
    def mutants(self) -> int:
        """The number of them."""
        return self.counts.total()

    @property
    def harmless(self) -> bool:
        """Whether each was read or refused."""
        return not self.counts.keys() - HARMLESS


def fuzzed(format_: str, mutants: int, seed: int, *, failed: Path = FAILED) -> Iterator[Counted]:
    """Read mutants of a format; yield the counts after each, always the same object.

    A mutant depends on the format, the seed and its number alone. One that fails is kept in a
    folder of its own inside ``failed``.
    """
    prepared, counted = FORMATS[format_](), Counted(format_)
    children = _children(prepared)
    try:
        for number in range(mutants):
            files = prepared.mutate(Random(f"{format_}:{seed}:{number}"))  # noqa: S311
            outcome = children.outcome(files)
            counted.counts[outcome.kind] += 1
            if outcome.kind not in HARMLESS:
                name = "".join(letter if letter.isalnum() else "_" for letter in format_)
                folder = failed / f"{name}-{seed}-{number}"
                _keep(files, folder, format_, outcome)
                counted.failed.append((folder, outcome))
            yield counted
    finally:
        children.close()


def replayed(folder: Path) -> Outcome:
    """Read a mutant again that was kept."""
    format_ = (folder / "format").read_text(encoding="utf-8")
    names = (folder / "names").read_text(encoding="utf-8").split("\n")
    files = {name: (folder / "files" / name).read_bytes() for name in names}
    children = _children(FORMATS[format_]())
    try:
        return children.outcome(files)
    finally:
        children.close()


def shares(mutants: int, formats: Sequence[str]) -> dict[str, int]:
    """Divide a number of mutants among formats, fewer to those that are slow to read.

    >>> shares(70, [".npz, models", ".onnx", ".h5"])
    {'.npz, models': 30, '.onnx': 30, '.h5': 10}
    """
    weights = {name: _WEIGHTS.get(name, _WEIGHT) for name in formats}
    total, before, given = sum(weights.values()), 0, {}
    for name, weight in weights.items():
        given[name] = mutants * (before + weight) // total - mutants * before // total
        before += weight
    return given


def _children(prepared: Prepared) -> Children:
    return Children(prepared.read, _MOST_MEMORY, allowed=(HDF5_TRIAL,))


def _keep(files: Files, folder: Path, format_: str, outcome: Outcome) -> None:
    inside = folder / "files"
    inside.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (inside / name).write_bytes(content)
    (folder / "format").write_text(format_, encoding="utf-8")
    (folder / "names").write_text("\n".join(files), encoding="utf-8")
    (folder / "outcome").write_text(f"{outcome.kind}: {outcome.words}\n", encoding="utf-8")
