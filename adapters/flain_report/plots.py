"""Plots of a purification by matplotlib, for papers: axes in, axes out.

Reached as ``result.plot()``, ``result.plot.curves(ax=ax)`` and so on; see
:class:`flain_core.reporting.presenting.Plots`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flain_core.outcome.outcome import Outcome

from .layer_plots import activations, curves, inputs, losses, updates
from .score_plots import classes, scores


def overview(result: Outcome) -> Figure:
    """Draw all there is to draw into one new figure, two plots to a row."""
    import matplotlib.pyplot as plt  # chooses a window system, which a page does not need

    plots = list(_plots(result))
    columns = min(len(plots), 2)
    rows = -(-len(plots) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 3.1 * rows), layout="constrained", squeeze=False
    )
    for plot, ax in zip(plots, grid.flat, strict=False):
        plot(ax=ax)
    for ax in grid.flat[len(plots) :]:
        ax.remove()
    return figure


def _plots(result: Outcome) -> Iterator[Callable[..., Axes]]:
    yield partial(scores, result)
    if result.by_class:
        yield partial(classes, result)
    for layer in result.layers:
        if not layer.steps:
            continue
        for plot in (curves, losses, activations):
            yield partial(plot, result, layer.name)
        if layer.norms:
            yield partial(updates, result, layer.name)
        if layer.norms and layer.grid:
            yield partial(inputs, result, layer.name)
