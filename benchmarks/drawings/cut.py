"""What a cut is, and what a candidate costs behind it: ``cut.svg``."""

from __future__ import annotations

from pathlib import Path

from .canvas import INK, KEPT, arrow, box, empty, figure


def draw(folder: Path) -> None:
    """Draw a network that is run once up to a layer, and often from there."""
    with figure(folder / "cut.svg", 8.4, 2.5) as axes:
        empty(axes, 8.4, 2.5)
        box(axes, 0.1, 0.8, 1.3, 0.9, "clean\nsamples", INK)
        box(axes, 2.0, 0.8, 1.7, 0.9, "up to the\nlayer", INK)
        box(axes, 4.3, 0.8, 1.2, 0.9, "layer", KEPT)
        box(axes, 6.1, 0.8, 1.0, 0.9, "tail", KEPT)
        for start, end in ((1.45, 1.95), (3.75, 4.25), (5.55, 6.05), (7.15, 7.55)):
            arrow(axes, (start, 1.25), (end, 1.25))
        axes.text(7.6, 1.25, "scores", va="center", color=INK)
        axes.plot([3.98, 3.98], [0.3, 2.3], color=INK, ls="--", lw=1.2)
        axes.text(2.0, 2.1, "runs once", ha="center", color=INK)
        axes.text(5.7, 2.1, "runs for each candidate", ha="center", color=KEPT)
        axes.text(3.98, 0.08, "cut", ha="center", color=INK)
