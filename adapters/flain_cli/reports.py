"""Writes the report in the format that its name asks for."""

from __future__ import annotations

from pathlib import Path

import flain_core as flain

__all__ = ["FORMATS", "write"]

FORMATS = (".html", ".json")
"""Suffixes that a report may have."""


def write(result: flain.Purification, path: Path, *, overwrite: bool) -> None:
    """Write the report: ``.json`` for programs, ``.html`` for people.

    Raises:
        OutputError: It cannot be written.
    """
    if path.suffix == ".json":
        result.to_json(path, overwrite=overwrite)
    else:
        draw = getattr(result, "report", None)
        if draw is None:
            raise flain.OutputError(f"cannot write {path}: this version of flain draws no pages")
        draw(path, overwrite=overwrite)
