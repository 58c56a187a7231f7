"""Rows of the matrix: one federation each, read from ``matrix.toml``."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tomllib

MATRIX = Path(__file__).parent / "matrix.toml"
CLASSES = 10
SOURCE = 0
TARGET = 5

Classes = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Row:
    """One federation.

    Attributes:
        name: Names the row, with its seed, within a profile.
        data: The data set.
        network: The network.
        partition: ``"iid"`` or ``"dirichlet"``.
        mcr: Share of malicious clients, from 0 to 1.
        trigger: What is put on images; at MCR 0 on test images only.
        technique: How malicious clients train.
        sources: ``"one"``: images of class 0 are attacked; ``"all"``: those of every class but
            the target; ``"each"``: those of every class, each of which is to be called the next.
        target: The class that triggered images are to be given, unless each has its own.
        poisoned: Share of its source images that a malicious client poisons.
        strategy: How the server aggregates.
        seed: Draws the split, the partition, the first weights, the sampled clients and batches.
        clients: How many there are.
        sampled: How many train in a round.
        clean: Rounds in which everybody is honest, shared by the rows that start alike.
        attacked: Rounds after those, in which malicious clients attack.
        epochs: Local epochs in a round.
        device: Where PyTorch trains and measures, which is not part of what the row is.
    """

    name: str
    data: str
    network: str
    partition: str = "iid"
    mcr: float = 0.0
    trigger: str = "patch"
    technique: str = "poison"
    sources: str = "all"
    target: int = TARGET
    poisoned: float = 0.3
    strategy: str = "fedavg"
    seed: int = 21
    clients: int = 20
    sampled: int = 10
    clean: int = 0
    attacked: int = 0
    epochs: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.mcr < 1 or not 0 < self.poisoned <= 1:
            raise ValueError(f"expected mcr in [0, 1) and poisoned in (0, 1]; got {self}")
        if self.sources not in ("one", "all", "each"):
            raise ValueError(f'expected sources "one", "all" or "each"; got {self.sources!r}')
        if not 1 <= self.sampled <= self.clients:
            raise ValueError(f"expected 1 to {self.clients} sampled clients; got {self.sampled}")

    @property
    def malicious(self) -> int:
        """How many clients are malicious: those with the lowest numbers."""
        return round(self.mcr * self.clients)

    @property
    def targets(self) -> tuple[int, ...]:
        """The classes that attackers want."""
        return tuple(range(CLASSES)) if self.sources == "each" else (self.target,)

    def wanted(self, labels: Classes) -> Classes:
        """The classes that triggered images of these classes are to be given."""
        if self.sources == "each":
            return ((labels + 1) % CLASSES).astype(labels.dtype)
        return np.full_like(labels, self.target)

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that change with any field but the device.

        Models from before rows had targets of their own keep their key.
        """
        values = asdict(self)
        del values["device"]
        if self.target == TARGET:
            del values["target"]
        return _digest(values)

    @property
    def start(self) -> str:
        """Names the honest rounds that this row shares with others."""
        shared = ("data", "network", "partition", "strategy", "seed", "clients", "sampled")
        common = {name: getattr(self, name) for name in (*shared, "epochs")}
        return f"{self.network}-{self.partition}-s{self.seed}-{_digest(common)}"


@dataclass(frozen=True)
class Cell:
    """A defence on a row's model with some auxiliary samples.

    Attributes:
        row: The row's name.
        defence: The defence's name.
        samples: How many auxiliary samples it gets.
        draw: Which draw of them.
        kind: What is wrong with the samples; ``"clean"``: nothing.
        deep: Whether relearning and the path from before to after are measured.
    """

    row: str
    defence: str
    samples: int
    draw: int = 0
    kind: str = "clean"
    deep: bool = False

    @property
    def name(self) -> str:
        """Names the cell within a profile."""
        return f"{self.row}/{self.defence}/{self.kind}-{self.samples}-{self.draw}"


@dataclass(frozen=True)
class Profile:
    """A part of the matrix that is run together: its rows by name, and its cells."""

    name: str
    rows: Mapping[str, Row]
    cells: tuple[Cell, ...]

    def only(self, part: str) -> Profile:
        """The rows and cells whose names have ``part`` in them; a cell's begins with its row's."""
        rows = {name: row for name, row in self.rows.items() if part in name}
        cells = tuple(cell for cell in self.cells if part in cell.name)
        named = {cell.row for cell in cells} | set(rows)
        kept = {name: row for name, row in self.rows.items() if name in named}
        return Profile(self.name, kept, cells)

    def on(self, device: str) -> Profile:
        """The same, trained and measured on another device."""
        moved = {name: replace(row, device=device) for name, row in self.rows.items()}
        return replace(self, rows=moved)


def read(profile: str, path: Path = MATRIX) -> Profile:
    """The profile of that name; one with ``rows_of`` has those of another's rows that it uses.

    Raises:
        KeyError: No such profile.
        ValueError: Two rows have one name, or a value is out of range.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    wanted = content["profiles"][profile]
    rows: dict[str, Row] = {}
    for group in content["profiles"][wanted.get("rows_of", profile)]["rows"]:
        for row in _rows(content["bases"], group):
            if row.name in rows:
                raise ValueError(f"two rows are called {row.name}; name one differently")
            rows[row.name] = row
    cells: dict[str, Cell] = {}
    for group in wanted["cells"]:
        for cell in _cells(rows, group):
            deep = cell.deep or (cell.name in cells and cells[cell.name].deep)
            cells[cell.name] = replace(cell, deep=deep)
    if "rows_of" in wanted:
        used = {cell.row for cell in cells.values()}
        rows = {name: row for name, row in rows.items() if name in used}
    return Profile(profile, rows, tuple(cells.values()))


def _rows(bases: Mapping[str, Mapping[str, Any]], group: Mapping[str, Any]) -> Iterator[Row]:
    """Every combination of the values that a group lists."""
    values = {**bases[group["base"]], **group}
    base, name = values.pop("base"), values.pop("name")
    known = {field.name for field in fields(Row)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"expected fields of a row in group {name}; got {unknown}")
    lists = {key: value if isinstance(value, list) else [value] for key, value in values.items()}
    for chosen in itertools.product(*lists.values()):
        row = dict(zip(lists, chosen, strict=True))
        made = Row(name=name, **row)
        yield replace(made, name=name.format(base=base, **asdict(made) | {"name": name}))


def _cells(rows: Mapping[str, Row], group: Mapping[str, Any]) -> Iterator[Cell]:
    """Every defence, sample size, draw and kind of a group, on each row that its filters let by.

    ``where`` lists values that fields may have, ``rows`` patterns of names.
    """
    where, patterns = group.get("where", {}), group.get("rows", ["*"])
    for row in rows.values():
        if any(getattr(row, key) not in allowed for key, allowed in where.items()):
            continue
        if not any(fnmatchcase(row.name, pattern) for pattern in patterns):
            continue
        for defence, samples, draw, kind in itertools.product(
            group["defences"],
            group["samples"],
            group.get("draws", [0]),
            group.get("kinds", ["clean"]),
        ):
            yield Cell(row.name, defence, samples, draw, kind, group.get("deep", False))


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
