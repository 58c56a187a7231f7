"""One search of the embedded example, candidate by candidate: ``search.svg``."""

from __future__ import annotations

from pathlib import Path

import flain

from .canvas import FLIPPED, INK, KEPT, figure, plain
from .embedded import purified


def draw(folder: Path) -> None:
    """Draw what clean samples lose, and what is left of the backdoor, over the threshold.

    In neurons, where candidates are many and small.
    """
    result = purified(flain.Settings(flip="neurons"))
    layer = result.layers[0]
    strengths = [step.threshold for step in layer.steps]
    losses = [(step.loss or 0) + (step.loss_error or 0) for step in layer.steps]
    before = result.before.probability
    limit = result.settings.allowed(None if before is None else 1 - before)
    with figure(folder / "search.svg", 8.4, 3.9, columns=2) as (left, right):
        left.plot(strengths, [100 * each for each in losses], color=KEPT, lw=2)
        left.axhline(100 * limit, color=INK, ls="--", lw=1.2)
        left.text(strengths[0], 101 * limit, "what may be lost", va="bottom", color=INK)
        left.set(xlabel="threshold", ylabel="lost by clean samples, points")
        left.set_title("The search stops by this …")
        for name, ink in (("ACC", KEPT), ("ASR", FLIPPED)):
            probes = [result.before.probes, *(step.probes for step in layer.steps)]
            shares = [100 * each[name] for each in probes]
            right.plot([strengths[0], *strengths], shares, color=ink, lw=2)
            right.text(strengths[-1] / 2, shares[-1] + 3, name, color=ink)
        right.set(xlabel="threshold", ylabel="on held-out samples, %", ylim=(-4, 112))
        right.set_title("… and never sees this")
        for axes in (left, right):
            axes.axvline(layer.threshold, color=INK, ls=":", lw=1.4)
            plain(axes)
