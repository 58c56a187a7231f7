"""Puts tables into pages of the documentation."""

from __future__ import annotations

from pathlib import Path

__all__ = ["put_into"]

_BEGINS, _ENDS = "<!-- The table begins. -->", "<!-- The table ends. -->"


def put_into(page: Path, table: str) -> None:
    """Replace the table in a page, and leave the rest of it alone.

    Raises ValueError, and leaves the page as it is, if it has no place for a table.
    """
    before, begins, rest = page.read_text(encoding="utf-8").partition(_BEGINS)
    _, ends, after = rest.partition(_ENDS)
    if not (begins and ends):
        raise ValueError(f"expected {_BEGINS} and {_ENDS} in {page}")
    page.write_text(f"{before}{_BEGINS}\n\n{table}\n{_ENDS}{after}", encoding="utf-8")
