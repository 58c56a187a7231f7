"""Where flain stands in a federation: ``federation.svg``."""

from __future__ import annotations

from pathlib import Path

from .canvas import FLIPPED, INK, KEPT, arrow, box, empty, figure


def draw(folder: Path) -> None:
    """Draw the clients, the server, and the call after the last round."""
    with figure(folder / "federation.svg", 8.4, 3.7) as axes:
        empty(axes, 8.4, 3.7)
        for number, ink in enumerate((INK, FLIPPED, INK)):
            words = "malicious client" if ink == FLIPPED else "client"
            box(axes, 0.1, 2.75 - 1.2 * number, 1.7, 0.8, words, ink)
            arrow(axes, (1.85, 3.15 - 1.2 * number), (2.6, 1.95 + 0.25 * (1 - number)), ink)
        box(axes, 2.65, 1.3, 1.5, 1.3, "server:\nall rounds\nof training", INK)
        arrow(axes, (4.2, 2.3), (4.95, 2.85), FLIPPED)
        box(axes, 5.0, 2.55, 1.5, 0.9, "trained\nmodel", FLIPPED)
        arrow(axes, (4.2, 1.6), (4.95, 1.05), INK)
        box(axes, 5.0, 1.4, 1.5, 0.8, "initial model", INK)
        box(axes, 5.0, 0.25, 1.5, 0.8, "clean\nsamples", INK)
        box(axes, 7.0, 1.45, 1.3, 0.7, "flain", KEPT)
        for start in ((6.55, 2.95), (6.55, 1.8), (6.55, 0.65)):
            arrow(axes, start, (6.95, 1.8 + 0.12 * (start[1] - 1.8)), INK)
        box(axes, 7.0, 0.25, 1.3, 0.8, "purified\nmodel", KEPT)
        arrow(axes, (7.65, 1.4), (7.65, 1.1), KEPT)
