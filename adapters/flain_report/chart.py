"""A chart of a page: a drawing, what to read from it place by place, and a table of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .svg import Box, Drawing
from .text import visible

Cell = str | tuple[str, str]
"""What stands in a cell of a table; of two texts the second one is the lesser."""


@dataclass(frozen=True)
class Reading:
    """What a chart says at one place: the part of the drawing, and the words."""

    box: Box
    text: str


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row names it.

    Attributes:
        caption: What it shows.
        head: The headings.
        rows: The cells, row by row.
        numeric: Whether all cells but the first hold numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        key: Its name within its part of the page.
        title: What it is; empty where a heading says it already.
        caption: How to read it.
        drawing: The plot.
        unit: What one goes through from reading to reading, such as ``"Step"``.
        readings: What it says, place by place.
        first: The reading to start from; None starts from none.
        table: The same in a table; None where the page has one beside the chart.
    """

    key: str
    title: str
    caption: str
    drawing: Drawing
    unit: str
    readings: Sequence[Reading]
    first: int | None = None
    table: Table | None = None

    @property
    def data(self) -> list[list[object]]:
        """The readings, for the script of the page."""
        return [[*reading.box, visible(reading.text)] for reading in self.readings]
