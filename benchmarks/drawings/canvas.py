"""What the pictures have in common: colours that show on light and on dark pages, and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
INK, KEPT, FLIPPED, PAPER = "#50575f", "#0072b2", "#d55e00", "#ffffff"
# As tall as it has to be for a reader of a phone, on which a picture is half as wide.
TEXT = 11.0


@contextmanager
def figure(path: Path, width: float, height: float, columns: int = 1) -> Iterator[Any]:
    """Yield the axes of a figure, in inches, and write it at the end; the same bytes every time."""
    mpl.rcParams.update({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": TEXT})
    made, axes = plt.subplots(1, columns, figsize=(width, height))
    yield axes
    made.tight_layout()
    # Words in an SVG would be dark on a dark page, so every picture brings its own paper.
    made.savefig(path, metadata=_metadata(path), facecolor=PAPER, dpi=160)
    plt.close(made)


def _metadata(path: Path) -> dict[str, Any]:
    return {"Date": None} if path.suffix == ".svg" else {"Software": None}


def empty(axes: Any, width: float, height: float) -> None:
    """Make axes a plane to draw boxes on."""
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_aspect("equal")
    axes.axis("off")


def box(axes: Any, x: float, y: float, width: float, height: float, text: str, ink: str) -> None:
    """Draw a box with words in the middle; ``(x, y)`` is its lower left corner."""
    patch = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", ec=ink, fc=PAPER, lw=1.6
    )
    axes.add_patch(patch)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=ink)


def arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], ink: str = INK, text: str = ""
) -> None:
    """Draw an arrow, with words above its middle."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=ink, lw=1.6)
    )
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12
        axes.text(*middle, text, ha="center", va="bottom", color=ink)


def plain(axes: Any) -> None:
    """Take the frame off a chart, and colour the rest."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    for each in (axes.xaxis.label, axes.yaxis.label, axes.title):
        each.set_color(INK)
    for each in axes.spines.values():
        each.set_color(INK)
