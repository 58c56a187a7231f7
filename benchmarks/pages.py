"""Puts tables into pages of the documentation."""

from __future__ import annotations

from pathlib import Path

__all__ = ["put_into"]


def put_into(page: Path, table: str, *, what: str = "") -> None:
    """Replace the table in a page, and leave the rest of it alone.

    ``what`` tells the tables of a page apart: ``<!-- The table of WHAT begins. -->``. Raises
    ValueError, and leaves the page as it is, if it has no place for the table.
    """
    of = f" of {what}" if what else ""
    begin, end = f"<!-- The table{of} begins. -->", f"<!-- The table{of} ends. -->"
    before, begins, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise ValueError(f"expected {begin} and {end} in {page}")
    page.write_text(f"{before}{begin}\n\n{table}\n{end}{after}", encoding="utf-8")
