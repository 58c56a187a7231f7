"""Plots of what was done to one layer: the search, the inputs of the layer, and their updates."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flain_core.errors import LayerError
from flain_core.network import Array
from flain_core.outcome.layer import LayerOutcome
from flain_core.outcome.outcome import Outcome

from .axes import LOST, SHARE, Scale, label, legend, new_axes, polish
from .binning import bins_of
from .facts import (
    allowed_losses,
    baseline,
    layer_of,
    lost_at,
    mosaic_columns,
    share_of_each,
    what_steps_are,
)
from .palette import PAPER, Palette

MOST_VECTORS = 600
_MOST_MARKERS = 60
_STYLES = (("--", "s"), ("-.", "^"), (":", "D"), ((0, (5, 1, 1, 1, 1, 1)), "v"))


def curves(
    result: Outcome,
    layer: str | None = None,
    ax: Axes | None = None,
    *,
    palette: Palette = PAPER,
) -> Axes:
    """Draw the clean score and every probe over the threshold, with the stop marked."""
    outcome, ax = layer_of(result, layer), new_axes(ax)
    places = _steps(ax, outcome, palette)
    start = baseline(result, outcome)
    marker = len(places) <= _MOST_MARKERS
    values = [start.clean, *(step.clean for step in outcome.steps)]
    ax.plot(places, values, marker="o" if marker else "", color=palette.after, label="clean")
    for name, colour, (line, mark) in zip(
        outcome.steps[0].probes, cycle(palette.probes), cycle(_STYLES), strict=False
    ):
        values = [start.probes[name], *(step.probes[name] for step in outcome.steps)]
        (drawn,) = ax.plot(places, values, linestyle=line, color=colour, label=label(name))
        drawn.set_marker(mark if marker else "")
    ax.set_ylabel("mean score")
    if result.before.samples:
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(SHARE)
        ax.set_ylabel("share classified as labelled")
    return _finished(ax, palette)


def losses(
    result: Outcome,
    layer: str | None = None,
    ax: Axes | None = None,
    *,
    palette: Palette = PAPER,
) -> Axes:
    """Draw what the tolerance limits over the threshold, with the limit and the stop marked."""
    outcome, ax = layer_of(result, layer), new_axes(ax)
    places = _steps(ax, outcome, palette)
    values = [baseline(result, outcome).lost, *(lost_at(result, step) for step in outcome.steps)]
    marker = "o" if len(places) <= _MOST_MARKERS else ""
    ax.plot(places, values, marker=marker, color=palette.after, label="lost")
    if allowed := allowed_losses(result, outcome):
        ax.plot(
            places, allowed, color=palette.flipped, linestyle="--", label="allowed", linewidth=1.4
        )
    if result.before.samples:
        ax.yaxis.set_major_formatter(LOST)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    by_score = outcome.steps[0].loss is None
    ax.set_ylabel("lost clean score" if by_score else "lost probability of the true class")
    return _finished(ax, palette)


def activations(
    result: Outcome,
    layer: str | None = None,
    ax: Axes | None = None,
    *,
    palette: Palette = PAPER,
) -> Axes:
    """Draw the histogram of the input neurons' activations, the flipped part coloured."""
    outcome, ax = layer_of(result, layer), new_axes(ax)
    bins, scale = bins_of(outcome.activation, outcome.flipped), Scale.of(outcome.activation)
    left, right = bins.edges[:-1], bins.edges[1:]
    flipped, kept = bins.flipped, bins.kept
    if sum(bins.silent):
        half = (right[0] / left[0]) ** 0.5
        left, right = np.append(scale.nought / half, left), np.append(scale.nought * half, right)
        flipped, kept = np.append(bins.silent[0], flipped), np.append(bins.silent[1], kept)
    for heights, below, colour, name, hatch in (
        (kept, 0, palette.kept, "kept", ""),
        (flipped, kept, palette.flipped, "flipped", "////"),
    ):
        ax.bar(
            left,
            heights,
            right - left,
            bottom=below,
            align="edge",
            color=colour,
            edgecolor=palette.card,
            linewidth=0.5,
            label=name,
            hatch=hatch,
        )
    scale.apply(ax)
    ax.set_ylim(0, 1.06 * float((flipped + kept).max()))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel(_activation_label(result, outcome))
    ax.set_ylabel("input neurons")
    return _finished(ax, palette)


def updates(
    result: Outcome,
    layer: str | None = None,
    ax: Axes | None = None,
    *,
    palette: Palette = PAPER,
) -> Axes:
    """Draw the norm of each input neuron's update over its activation, the flipped ones coloured.

    Raises:
        LayerError: The outcome has no norms.
    """
    outcome = layer_of(result, layer)
    if outcome.norms is None:
        raise LayerError(f"the norms of the update of {outcome.name!r} are unknown")
    ax = new_axes(ax)
    scale = Scale.of(outcome.activation)
    places = scale.places(outcome.activation)
    # Thousands of marks become a picture, which cannot follow the colours of a page.
    many = len(places) > MOST_VECTORS
    colours = PAPER if many else palette
    for which, colour, marker, name in (
        (~outcome.flipped, colours.kept, "o", "kept"),
        (outcome.flipped, colours.flipped, "x", "flipped"),
    ):
        ax.plot(
            places[which],
            outcome.norms.update[which],
            marker,
            color=colour,
            markersize=2.5 if many else 4,
            label=name,
            rasterized=many,
        )
    scale.apply(ax)
    ax.set_ylim(0, None)
    ax.set_xlabel(_activation_label(result, outcome))
    ax.set_ylabel("norm of the update")
    return _finished(ax, palette)


def inputs(
    result: Outcome,
    layer: str | None = None,
    ax: Axes | None = None,
    *,
    palette: Palette = PAPER,
) -> Axes:
    """Draw, channel by channel, how much of each input's update was flipped.

    Channels lie in rows of tiles, the first at the top left; each tile has the rows and columns of
    the channel.

    Raises:
        LayerError: The layer is not behind a convolution, or the order of its inputs is unknown.
    """
    outcome = layer_of(result, layer)
    grid, shares = outcome.grid, share_of_each(result, outcome)
    if grid is None or shares is None:
        raise LayerError(
            f"the channels, rows and columns of the inputs of {outcome.name!r} are unknown, as no "
            "convolution before it shows them"
        )
    across = mosaic_columns(outcome)
    down = -(-grid.channels // across)
    tall, wide = grid.rows + 1, grid.columns + 1
    ax = new_axes(ax, height=4.0 * down * tall / (across * wide) + 0.6)
    picture = np.zeros((down * tall - 1, across * wide - 1, 4))
    red, green, blue = (int(PAPER.flipped[place : place + 2], 16) / 255 for place in (1, 3, 5))
    for channel, tile in enumerate(grid.arrange(shares)):
        row, column = divmod(channel, across)
        top, left = row * tall, column * wide
        place = picture[top : top + grid.rows, left : left + grid.columns]
        place[..., :3] = 0.5 + tile[..., None] * (np.array([red, green, blue]) - 0.5)
        place[..., 3] = 0.15 + 0.85 * tile
    ax.imshow(picture, interpolation="none", aspect="equal")
    columns, rows = range(0, across, max(1, across // 8)), range(0, down, max(1, down // 8))
    ax.set_xticks([i * wide + (grid.columns - 1) / 2 for i in columns], [f"+{i}" for i in columns])
    ax.set_yticks([i * tall + (grid.rows - 1) / 2 for i in rows], [str(i * across) for i in rows])
    ax.set_xlabel("channel, counted on from the left")
    ax.set_ylabel("channel")
    polish(ax, palette)
    ax.spines[:].set_visible(False)
    return ax


def _steps(ax: Axes, outcome: LayerOutcome, palette: Palette) -> Array:
    """Return the places before the search and of its steps, with the chosen one marked."""
    thresholds = np.array([step.threshold for step in outcome.steps])
    scale = Scale.of(thresholds)
    if outcome.threshold is not None:
        chosen = float(scale.places(np.array([outcome.threshold]))[0])
        ax.axvline(chosen, color=palette.ink, linestyle=":", label="chosen", linewidth=1.6)
    scale.apply(ax, before=True)
    ax.set_xlabel(what_steps_are(outcome))
    return np.append(scale.before, scale.places(thresholds))


def _activation_label(result: Outcome, outcome: LayerOutcome) -> str:
    if outcome.flip == "directions":
        return "variance on clean samples"
    return {
        "mean": "mean activation on clean samples",
        "mean_abs": "mean absolute activation on clean samples",
        "rms": "root mean square on clean samples",
        "active_fraction": "share of positive values on clean samples",
    }[result.settings.statistic]


def _finished(ax: Axes, palette: Palette) -> Axes:
    ax.grid(axis="y", color=palette.grid)
    return legend(polish(ax, palette), palette)
