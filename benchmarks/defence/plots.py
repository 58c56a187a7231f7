"""The page's figures: SVG files that are the same, byte for byte, for the same results."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullLocator, ScalarFormatter

from . import summary, tables, tables_of_samples
from .files import written
from .stored import Stored
from .summary import FLAIN, MOST, drop, field, mean, plain

# Ids in the file would be random and dates would differ; text stays text.
_STYLE: dict[Any, Any] = {"svg.hashsalt": "flain", "svg.fonttype": "none", "font.size": 9.0}
_METADATA = {"Date": None, "Creator": None}
_MARKERS = "osD^vPX<>hpd"

Draw = Callable[[Stored], Drawing | None]


def write(stored: Stored, folder: Path, page: str) -> frozenset[str]:
    """Writes a page's figures that there are results for; returns their file names.

    A figure without results is removed, so that none is older than the page.
    """
    names = set()
    for kind, draw in FIGURES.items():
        name = f"{page}-{kind}.svg"
        path = folder / name
        with mpl.rc_context(_STYLE):
            drawing = draw(stored)
            if drawing is None:
                path.unlink(missing_ok=True)
                continue
            written(path, partial(_save, drawing))
        names.add(name)
    return frozenset(names)


def _save(drawing: Drawing, path: Path) -> None:
    """Writes it without the spaces that matplotlib leaves at the ends of lines."""
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", metadata=_METADATA)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _panels(count: int) -> tuple[Drawing, list[Axes]]:
    drawing = Drawing(figsize=(4 * count, 3.4), layout="constrained")
    return drawing, list(drawing.subplots(1, count, squeeze=False)[0])


def trade(stored: Stored) -> Drawing | None:
    """Each defence's ASR after against its drop of ACC, on the rows of the rivals' tables."""
    found = {name: marks for name, test in summary.DATA.items() if (marks := _marks(stored, test))}
    if not found:
        return None
    names = list(dict.fromkeys(name for marks in found.values() for name in marks))
    drawing, panels = _panels(len(found))
    for axes, (title, marks) in zip(panels, found.items(), strict=True):
        for name, (lost, left) in marks.items():
            axes.plot(100 * lost, 100 * left, label=name, **_look(name, names))
        axes.set(title=title, xlabel="mean drop of ACC, points", ylabel="mean ASR after, %")
        axes.set_xscale("symlog", linthresh=1)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_ylim(-5, 105)
    drawn: dict[str, Any] = {}
    for axes in panels:
        drawn |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    drawing.legend(list(drawn.values()), list(drawn), loc="outside right upper", fontsize=7)
    return drawing


def _look(name: str, names: list[str]) -> dict[str, Any]:
    """Flain is a red star; every other defence has a marker and a colour of its own."""
    if name == FLAIN:
        return {"marker": "*", "color": "#c44e52", "markersize": 13, "linestyle": "", "zorder": 3}
    place = names.index(name)
    marker = _MARKERS[place % len(_MARKERS)]
    return {"marker": marker, "color": mpl.colormaps["tab20"](place % 20), "linestyle": ""}


def _marks(stored: Stored, test: summary.Test) -> dict[str, tuple[float, float]]:
    marks = {}
    for name, found in tables.rivals_runs(stored, test).items():
        lost, left = mean(drop, found).value, mean(field("asr"), found).value
        if lost is not None and left is not None:
            marks[name] = (lost, left)
    return marks


def samples(stored: Stored) -> Drawing | None:
    """Flain's drop of ACC and ASR after against the number of samples, if that differs."""
    if len(tables_of_samples.every_size(stored)) < 2:
        return None
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for name, test in summary.DATA.items():
        rows = tables_of_samples.of_all_sizes(stored, summary.attacked(test))
        for size in tables_of_samples.every_size(stored):
            found = plain(stored, FLAIN, size, rows)
            lost, left = mean(drop, found).value, mean(field("asr"), found).value
            if lost is not None and left is not None:
                lines.setdefault(name, []).append((size, 100 * lost, 100 * left))
    if not lines:
        return None
    drawing, panels = _panels(2)
    for name, values in lines.items():
        sizes, lost_points, left_percent = zip(*values, strict=True)
        panels[0].plot(sizes, lost_points, "o-", label=name)
        panels[1].plot(sizes, left_percent, "o-", label=name)
    panels[0].set(ylabel="mean drop of ACC, points")
    panels[0].axhline(0, color="grey", linewidth=0.5)
    panels[1].set(ylabel="mean ASR after, %", ylim=(-5, 105))
    for axes in panels:
        axes.set(xlabel="auxiliary samples", xscale="log")
        axes.set_xticks(tables_of_samples.every_size(stored))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend()
    return drawing


def path(stored: Stored) -> Drawing | None:
    """ASR at the points of the line from the weights before to those after, by row."""
    lines: dict[str, dict[str, list[float]]] = {}
    for outcome in stored.outcomes.values():
        cell = outcome.cell
        way = outcome.content.get("path")
        if way and cell.samples == MOST and cell.defence != "none" and outcome.row.mcr > 0:
            lines.setdefault(cell.row, {})[cell.defence] = way
    if not lines:
        return None
    drawing, panels = _panels(len(lines))
    for axes, (row, ways) in zip(panels, lines.items(), strict=True):
        for defence, way in ways.items():
            at = [place / (len(way) - 1) for place in range(len(way))]
            axes.plot(at, [100 * rate for rate in way], "o-", label=defence, markersize=3)
        axes.set(title=row, xlabel="share of the way", ylabel="ASR, %", ylim=(-5, 105))
        axes.legend()
    return drawing


FIGURES: dict[str, Draw] = {
    "trade": trade,
    "samples": samples,
    "path": path,
}
