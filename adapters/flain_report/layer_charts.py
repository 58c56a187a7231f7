"""Charts and tables of one layer: the search, the inputs of the layer, and their updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise

import numpy as np

from flain_core.network import Array
from flain_core.outcome.layer import LayerOutcome, UpdateNorms
from flain_core.outcome.outcome import Outcome
from flain_core.reporting.input_grid import InputGrid

from . import layer_plots
from .axes import Scale
from .binning import Bins, bins_of
from .chart import Cell, Chart, Reading, Table
from .facts import (
    allowed_losses,
    baseline,
    chosen_step,
    factor_of,
    lost_at,
    mosaic_columns,
    share_of_each,
    what_steps_are,
)
from .palette import THEMED
from .score_charts import score
from .svg import Drawing, draw
from .text import counted, number, percent

_MOST_STEPS = 400
_HEIGHT = 3.1
_MOST_LISTED = 12


def layer_charts(result: Outcome, outcome: LayerOutcome, prefix: str) -> Iterator[Chart]:
    """Yield the charts of a layer; none of a layer that was not searched."""
    if not outcome.steps:
        return
    yield _curves(result, outcome, prefix)
    yield _losses(result, outcome, prefix)
    bins = bins_of(outcome.activation, outcome.flipped)
    yield _activations(result, outcome, bins, prefix)
    if outcome.norms is None:
        return
    yield _updates(result, outcome, bins, outcome.norms, prefix)
    shares = share_of_each(result, outcome)
    if outcome.grid is not None and shares is not None:
        yield _inputs(result, outcome, outcome.grid, shares, prefix)


def steps_table(result: Outcome, outcome: LayerOutcome) -> Table:
    """Return the steps of a search: all of them, or as many as a page has room for."""
    what, chosen = what_steps_are(outcome), chosen_step(outcome)
    rows = []
    for index in _steps_shown(outcome):
        step = outcome.steps[index]
        mark = " (chosen)" if index == chosen else ""
        scores = [score(result, value) for value in (step.clean, *step.probes.values())]
        loss = percent(None if step.loss is None else lost_at(result, step), 2)
        rows.append([f"{number(step.threshold)}{mark}", f"{step.neurons_flipped:,}", loss, *scores])
    probes = outcome.steps[0].probes
    return Table(
        "Steps of the search" if len(rows) == len(outcome.steps) else "Some steps of the search",
        (what.capitalize(), "Neurons flipped", "Lost probability and its error", "Clean", *probes),
        rows,
    )


def norms_table(result: Outcome, outcome: LayerOutcome) -> Table | None:
    """Return the norms of a layer's weights and of their changes, where they are known."""
    norms = outcome.norms
    if norms is None:
        return None
    update, change = (float(np.linalg.norm(each)) for each in (norms.update, norms.change))
    share = f" ({percent(update / norms.initial)} of them)" if norms.initial else ""
    factor = factor_of(result, outcome)
    return Table(
        "Frobenius norms of the weights and of what changed them",
        ("Weights", "Norm"),
        (
            ("Initial weights", number(norms.initial)),
            (f"What training added, the update{share}", number(update)),
            ("Trained weights", number(norms.trained)),
            (f"What purifying changed, up to {factor:g} times the update", number(change)),
            ("Purified weights", number(norms.purified)),
        ),
    )


def _steps_shown(outcome: LayerOutcome) -> list[int]:
    """Return all steps, or evenly spaced ones and those about the chosen one."""
    count, chosen = len(outcome.steps), chosen_step(outcome) or 0
    if count <= _MOST_STEPS:
        return list(range(count))
    spread = np.linspace(0, count - 1, _MOST_STEPS - 5).round().astype(int).tolist()
    return sorted({*spread, *(i for i in range(chosen - 2, chosen + 3) if 0 <= i < count)})


def _step_words(result: Outcome, outcome: LayerOutcome, index: int) -> str:
    step = outcome.steps[index]
    words = [
        f"{what_steps_are(outcome)} {number(step.threshold)}",
        f"{step.neurons_flipped:,} of {outcome.flipped.size:,} neurons",
        *_scores(result, step.clean, step.probes),
    ]
    if step.loss is not None:
        words.append(f"lost probability, its error included, {percent(lost_at(result, step), 2)}")
    return ", ".join(words) + (". This one was chosen." if index == chosen_step(outcome) else "")


def _scores(result: Outcome, clean: float, probes: Mapping[str, float]) -> Iterator[str]:
    yield f"clean {score(result, clean)}"
    yield from (f"{name} {score(result, value)}" for name, value in probes.items())


def _along_steps(
    result: Outcome, outcome: LayerOutcome, drawing: Drawing
) -> tuple[list[Reading], int]:
    thresholds = np.array([step.threshold for step in outcome.steps])
    scale = Scale.of(thresholds)
    places = scale.places(thresholds).tolist()
    start = baseline(result, outcome)
    before = ", ".join(_scores(result, start.clean, start.probes))
    readings = [Reading(drawing.band(scale.before), f"before the search: {before}")]
    shown = _steps_shown(outcome)
    readings += [
        Reading(drawing.band(places[index]), _step_words(result, outcome, index)) for index in shown
    ]
    chosen = chosen_step(outcome)
    return readings, 0 if chosen is None else 1 + shown.index(chosen)


def _curves(result: Outcome, outcome: LayerOutcome, prefix: str) -> Chart:
    what = what_steps_are(outcome)
    drawing = draw(
        partial(layer_plots.curves, result, outcome.name, palette=THEMED),
        f"{prefix}-curves",
        f"Clean score and probes over the {what}",
        _HEIGHT,
    )
    caption = (
        f"Each point is a model that was tried: the greater the {what}, the more of the update is "
        "flipped. The dotted line marks the one that was chosen."
    )
    if outcome.threshold is None:
        caption = "Each point is a model that was tried. None was good enough to be chosen."
    if outcome.steps[0].probes:
        caption += " Probes had no say in it."
    readings, first = _along_steps(result, outcome, drawing)
    return Chart("curves", f"Scores over the {what}", caption, drawing, "Step", readings, first)


def _losses(result: Outcome, outcome: LayerOutcome, prefix: str) -> Chart:
    drawing = draw(
        partial(layer_plots.losses, result, outcome.name, palette=THEMED),
        f"{prefix}-losses",
        "What the clean samples lose, and how much is allowed",
        _HEIGHT,
    )
    allowed = allowed_losses(result, outcome)
    by_score = outcome.steps[0].loss is None
    what = "the clean score" if by_score else "the probability of their true class"
    caption = f"The search ends where clean samples lose too much of {what}."
    if allowed:
        least, most = (
            percent(limit, 2) if result.before.samples else number(limit)
            for limit in (min(allowed), max(allowed))
        )
        caption += f" Allowed is {least}"
        if most != least:
            caption += f", and up to {most} where little of what speaks for a class is flipped"
        caption += "." if by_score else ", one standard error of the loss included."
    readings, first = _along_steps(result, outcome, drawing)
    return Chart("losses", "What clean samples lose", caption, drawing, "Step", readings, first)


def _activations(result: Outcome, outcome: LayerOutcome, bins: Bins, prefix: str) -> Chart:
    drawing = draw(
        partial(layer_plots.activations, result, outcome.name, palette=THEMED),
        f"{prefix}-activations",
        "How strongly clean samples use the inputs of the layer",
        _HEIGHT,
    )
    low, high = drawing.axes.get_ylim()
    edges = bins.edges.tolist()
    boxes = [drawing.box(a, b, low, high) for a, b in pairwise(edges)]
    rows: list[list[Cell]] = [
        [name, f"{flipped:,}", f"{kept:,}"]
        for name, flipped, kept in zip(
            _bin_names(bins), bins.flipped.tolist(), bins.kept.tolist(), strict=True
        )
    ]
    if sum(bins.silent):
        rows.insert(0, ["0 (never used)", *(f"{count:,}" for count in bins.silent)])
        nought, half = Scale.of(outcome.activation).nought, (edges[1] / edges[0]) ** 0.5
        boxes.insert(0, drawing.box(nought / half, nought * half, low, high))
    readings = [
        Reading(box, f"{name}: {flipped} flipped, {kept} kept")
        for box, (name, flipped, kept) in zip(boxes, rows, strict=True)
    ]
    of = _of(outcome)
    caption = (
        f"Input neurons by their {of} on clean samples. On the left are those that clean samples "
        "hardly use, where a backdoor can hide."
    )
    if outcome.flip == "directions":
        caption += " Coloured are those that vary no more than the strength."
    table = Table(f"Input neurons by {of}", (of.capitalize(), "Flipped", "Kept"), rows)
    title = "How clean samples use the inputs"
    return Chart("activations", title, caption, drawing, "Bar", readings, table=table)


def _updates(
    result: Outcome, outcome: LayerOutcome, bins: Bins, norms: UpdateNorms, prefix: str
) -> Chart:
    drawing = draw(
        partial(layer_plots.updates, result, outcome.name, palette=THEMED),
        f"{prefix}-updates",
        "How much training changed the weights of each input neuron",
        _HEIGHT,
    )
    low, high = drawing.axes.get_ylim()
    scale = Scale.of(outcome.activation)
    places, edges = scale.places(outcome.activation), bins.edges
    groups = [
        (name, (places >= a) & ((places < b) | (b == edges[-1])), drawing.box(a, b, low, high))
        for name, a, b in zip(_bin_names(bins), edges[:-1], edges[1:], strict=True)
    ]
    if sum(bins.silent):
        band = drawing.band(scale.nought, 8.0)
        groups.insert(0, ("0 (never used)", outcome.activation <= 0, band))
    readings, rows = [], []
    for name, group, box in groups:
        count = int(group.sum())
        if count:
            update, change = (number(float(x[group].mean())) for x in (norms.update, norms.change))
            rows.append((name, f"{count:,}", update, change))
            words = f"training changed the weights of each by {update} on average, purifying by"
            readings.append(Reading(box, f"{name}: {counted(count, 'neuron')}; {words} {change}"))
    caption = (
        "Each mark is an input neuron. Those high on the left were trained much, though clean "
        "samples hardly use them, as a backdoor would be."
    )
    head = (
        _of(outcome).capitalize(),
        "Neurons",
        "Mean norm of the update",
        "Mean norm of what was changed",
    )
    table = Table(f"Norms of the update, by {_of(outcome)}", head, rows)
    title = "How much training changed each input"
    return Chart("updates", title, caption, drawing, "Group", readings, table=table)


def _inputs(
    result: Outcome, outcome: LayerOutcome, grid: InputGrid, shares: Array, prefix: str
) -> Chart:
    across = mosaic_columns(outcome)
    tall, wide, places = grid.rows + 1, grid.columns + 1, grid.rows * grid.columns
    drawing = draw(
        partial(layer_plots.inputs, result, outcome.name, palette=THEMED),
        f"{prefix}-inputs",
        "Which inputs of the layer were flipped, channel by channel",
        min(3.9 * -(-grid.channels // across) * tall / (across * wide) + 0.7, 7.0),
    )
    readings, rows = [], []
    tiles = zip(grid.arrange(outcome.flipped), grid.arrange(shares), strict=True)
    for channel, (flipped, tile) in enumerate(tiles):
        row, column = divmod(channel, across)
        top, left = row * tall - 0.5, column * wide - 0.5
        box = drawing.box(left, left + grid.columns, top, top + grid.rows)
        where = [f"({r}, {c})" for r, c in np.argwhere(flipped).tolist()]
        listed = " ".join(where[:_MOST_LISTED]) + (" …" if len(where) > _MOST_LISTED else "")
        count, share = f"{len(where)} of {places}", percent(float(tile.mean()))
        rows.append((str(channel), count, share, listed if places > 1 else ""))
        text = f"channel {channel}: {count} flipped, {share} of the update"
        at = f"; (row, column) {listed}" if 0 < len(where) < places else ""
        readings.append(Reading(box, text + at))
    caption = (
        f"The layer reads {counted(grid.channels, 'channel')} of {grid.rows} × {grid.columns} from "
        "the convolution before it. Each tile is a channel; the deeper the colour, the more of the "
        "update of that place was flipped. All are counted from 0."
    )
    head = ("Channel", "Places flipped", "Share of the update", "Rows and columns")
    table = Table("Flipped inputs, by channel", head, rows, numeric=False)
    title = "Which inputs were flipped"
    return Chart("inputs", title, caption, drawing, "Channel", readings, table=table)


def _bin_names(bins: Bins) -> list[str]:
    edges = [number(edge) for edge in bins.edges.tolist()]
    return [f"{low} to {high}" for low, high in pairwise(edges)]


def _of(outcome: LayerOutcome) -> str:
    """Say what was measured of the layer's inputs."""
    return "variance" if outcome.flip == "directions" else "activation"
