"""A profile's stored results, beside what the matrix asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rows import Cell, Profile, Row

Content = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A cell's result.

    Attributes:
        row: The row whose model was defended.
        cell: The cell.
        content: What its file holds; no rates where ``refused`` is not None.
    """

    row: Row
    cell: Cell
    content: Content

    @property
    def refused(self) -> str | None:
        """Why the defence refused the model."""
        reason: str | None = self.content["info"].get("refused")
        return reason


@dataclass(frozen=True, eq=False)
class Stored:
    """What there is of a profile; what is missing is in neither mapping.

    Attributes:
        profile: What the matrix asks for.
        trained: Contents of the rows' files, by row.
        outcomes: The cells' results, by cell; only of rows in ``trained``.
    """

    profile: Profile
    trained: Mapping[str, Content]
    outcomes: Mapping[str, Outcome]


def read(profile: Profile, folder: Path) -> Stored:
    """Reads ``rows`` and ``cells`` of a profile's folder.

    Files that the matrix does not ask for are left out, and so are those of a row that has changed
    since.
    """
    trained = {}
    for row in profile.rows.values():
        content = _content(folder / "rows" / f"{row.name}.json", row)
        if content is not None:
            trained[row.name] = content
    outcomes = {}
    for cell in profile.cells:
        row = profile.rows[cell.row]
        content = _content(folder / "cells" / f"{cell.name}.json", row)
        if content is not None and row.name in trained:
            outcomes[cell.name] = Outcome(row, cell, content)
    return Stored(profile, trained, outcomes)


def _content(path: Path, row: Row) -> Content | None:
    if not path.exists():
        return None
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content if content["key"] == row.key else None
