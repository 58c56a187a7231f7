"""Colours of plots: for paper, and as stand-ins that a page replaces by those of its theme."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours by their use; lines of probes differ in dashes and markers as well.

    Attributes:
        ink: Text and axes.
        grid: Lines of the grid.
        before: The trained model.
        after: The purified model, and the clean score.
        flipped: What was flipped, and limits.
        kept: What was left as it is.
        card: What lies between bars.
        probes: Probes, one after the other.
    """

    ink: str
    grid: str
    before: str
    after: str
    flipped: str
    kept: str
    card: str
    probes: tuple[str, ...]


# Okabe and Ito's colours, which colour-blind readers can tell apart.
PAPER = Palette(
    ink="#222222",
    grid="#e2e2e2",
    before="#767676",
    after="#0072b2",
    flipped="#d55e00",
    kept="#8399ae",
    card="#ffffff",
    probes=("#d55e00", "#007a5a", "#a64d79", "#8a6d00"),
)

VARIABLES = {
    "#010101": "--f-ink",
    "#020202": "--f-line",
    "#030303": "--f-before",
    "#040404": "--f-after",
    "#050505": "--f-flipped",
    "#060606": "--f-kept",
    "#070707": "--f-card",
    "#080808": "--f-probe-1",
    "#090909": "--f-probe-2",
    "#0a0a0a": "--f-probe-3",
    "#0b0b0b": "--f-probe-4",
}
"""The variable of the style sheet that replaces each stand-in."""

_ink, _grid, _before, _after, _flipped, _kept, _card, *_probes = VARIABLES
THEMED = Palette(_ink, _grid, _before, _after, _flipped, _kept, _card, tuple(_probes))
