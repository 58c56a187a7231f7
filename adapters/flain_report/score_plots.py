"""Plots of what a model scores before and after: of each set of samples, and of each class."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from flain_core.errors import LayerError
from flain_core.network import Array
from flain_core.outcome.measurement import Measurement
from flain_core.outcome.outcome import Outcome

from .axes import SHARE, label, legend, new_axes, polish
from .facts import classes_shown
from .intervals import interval
from .palette import PAPER, Palette

_APART = 0.15


def scores(result: Outcome, ax: Axes | None = None, *, palette: Palette = PAPER) -> Axes:
    """Draw the clean score and every probe before and after, with 95 % intervals where known."""
    names = ["clean", *result.before.probes]
    ax = new_axes(ax, height=1.2 + 0.5 * len(names))
    for measured, after in ((result.before, False), (result.after, True)):
        colour = palette.after if after else palette.before
        places = np.arange(len(names)) + (_APART if after else -_APART)
        for name, place in zip(names, places, strict=True):
            bounds = _interval(measured, name)
            if bounds:
                _bar(ax, bounds, (place, place), colour)
        values = [measured.clean, *(measured.probes[name] for name in names[1:])]
        _dots(ax, np.array(values), places, colour, after=after)
    ax.set_yticks(range(len(names)), [label(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="x", color=palette.grid)
    ax.set_xlabel("mean score")
    if result.before.samples:
        ax.set_xlim(-0.03, 1.03)
        ax.xaxis.set_major_formatter(SHARE)
        ax.set_xlabel("share classified as labelled")
    return legend(polish(ax, palette), palette)


def classes(result: Outcome, ax: Axes | None = None, *, palette: Palette = PAPER) -> Axes:
    """Draw the accuracy per class before and after, with 95 % intervals.

    Raises:
        LayerError: The classes are not known.
    """
    shown = classes_shown(result)
    if not shown:
        raise LayerError(
            "the accuracy of each class is known only for a classifier without score= whose "
            "samples lie in this process"
        )
    ax = new_axes(ax)
    for after in (False, True):
        colour = palette.after if after else palette.before
        places = np.arange(len(shown)) + (_APART if after else -_APART)
        right = [each.right_after if after else each.right_before for each in shown]
        for place, count, each in zip(places, right, shown, strict=True):
            _bar(ax, (place, place), interval(count, each.samples), colour)
        values = [count / each.samples for count, each in zip(right, shown, strict=True)]
        _dots(ax, places, np.array(values), colour, after=after)
    every = max(1, len(shown) // 12)
    ax.set_xticks(range(0, len(shown), every), [str(each.label) for each in shown[::every]])
    ax.set_ylim(None, 1.02)
    ax.set_yticks([tick for tick in ax.get_yticks() if ax.get_ylim()[0] <= tick <= 1])
    ax.yaxis.set_major_formatter(SHARE)
    ax.grid(axis="y", color=palette.grid)
    left_out = len(shown) < len(result.by_class)
    ax.set_xlabel(f"the {len(shown)} classes that lost most" if left_out else "class")
    ax.set_ylabel("accuracy")
    return legend(polish(ax, palette), palette)


def _bar(ax: Axes, x: tuple[float, float], y: tuple[float, float], colour: str) -> None:
    ax.plot(x, y, color=colour, linewidth=2.2, alpha=0.5, solid_capstyle="butt")


def _dots(ax: Axes, x: Array, y: Array, colour: str, *, after: bool) -> None:
    name, fill = ("after", colour) if after else ("before", "none")
    ax.plot(x, y, "o", color=colour, markerfacecolor=fill, label=name, markersize=5.5)


def _interval(measured: Measurement, name: str) -> tuple[float, float] | None:
    samples = measured.samples.get(name)
    value = measured.clean if name == "clean" else measured.probes[name]
    return interval(round(value * samples), samples) if samples else None
