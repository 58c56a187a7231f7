"""Charts and tables of scores before and after: of each set of samples, and of each class."""

from __future__ import annotations

from functools import partial

from flain_core.outcome.measurement import Measurement
from flain_core.outcome.outcome import Outcome

from . import score_plots
from .chart import Cell, Chart, Reading, Table
from .facts import classes_shown
from .intervals import interval
from .palette import THEMED
from .svg import draw
from .text import counted, number, percent, points

_MARKS = "Open circles: before. Full circles: after."
_BARS = " Bars are 95 % confidence intervals."


def score(result: Outcome, value: float | None) -> str:
    """Write a score: accuracy in per cent, another as a number."""
    return percent(value) if result.before.samples else number(value)


def scores_table(result: Outcome) -> Table:
    """Return the clean score and every probe before and after."""
    before, after = result.before, result.after
    names = {"clean": "Clean samples (ACC)" if before.samples else "Clean samples, mean score"}
    names |= {name: f"Probe “{name}”" for name in before.probes}
    rows: list[list[Cell]] = []
    for name, title in names.items():
        values = [_value(each, name) for each in (before, after)]
        change = values[1] - values[0]
        samples = before.samples.get(name)
        rows.append(
            [
                title,
                *(_with_interval(value, samples) for value in values),
                points(change) if samples else f"{change:+.4g}",
                f"{samples:,}" if samples else "–",
            ]
        )
    caption = "Mean scores of the model"
    if before.samples:
        caption = "Share of samples classified as labelled, with 95 % confidence intervals"
    return Table(caption, ("Score", "Before", "After", "Change", "Samples"), rows)


def scores_chart(result: Outcome, prefix: str) -> Chart:
    """Draw the clean score and every probe before and after."""
    names = ["clean", *result.before.probes]
    drawing = draw(
        partial(score_plots.scores, result, palette=THEMED),
        f"{prefix}-scores",
        "Scores before and after purifying",
        0.95 + 0.42 * len(names),
    )
    left, right = drawing.axes.get_xlim()
    readings = []
    for row, name in enumerate(names):
        before, after = (
            score(result, _value(each, name)) for each in (result.before, result.after)
        )
        box = drawing.box(left, right, row - 0.4, row + 0.4)
        readings.append(Reading(box, f"{name}: before {before}, after {after}"))
    caption = _MARKS + (_BARS if result.before.samples else "")
    return Chart("scores", "", caption, drawing, "Score", readings)


def classes_table(result: Outcome) -> Table:
    """Return the accuracy of each class before and after."""
    rows: list[list[Cell]] = []
    for each in result.by_class:
        shares = each.right_before / each.samples, each.right_after / each.samples
        cells = [_with_interval(share, each.samples) for share in shares]
        rows.append([str(each.label), *cells, points(shares[1] - shares[0]), f"{each.samples:,}"])
    return Table(
        "Accuracy of each class, with 95 % confidence intervals",
        ("Class", "Before", "After", "Change", "Samples"),
        rows,
    )


def classes_chart(result: Outcome, prefix: str) -> Chart:
    """Draw the accuracy of each class before and after."""
    drawing = draw(
        partial(score_plots.classes, result, palette=THEMED),
        f"{prefix}-classes",
        "Accuracy of each class before and after purifying",
        3.0,
    )
    low, high = drawing.axes.get_ylim()
    shown = classes_shown(result)
    readings = [
        Reading(
            drawing.box(place - 0.45, place + 0.45, low, high),
            f"class {each.label}: before {percent(each.right_before / each.samples)}, after "
            f"{percent(each.right_after / each.samples)} of {counted(each.samples, 'sample')}",
        )
        for place, each in enumerate(shown)
    ]
    caption = _MARKS + _BARS
    if len(shown) < len(result.by_class):
        caption += f" Shown are the {len(shown)} of {len(result.by_class)} classes that lost most."
    return Chart("classes", "", caption, drawing, "Class", readings)


def _value(measured: Measurement, name: str) -> float:
    return measured.clean if name == "clean" else measured.probes[name]


def _with_interval(value: float, samples: int | None) -> Cell:
    if not samples:
        return number(value)
    low, high = interval(round(value * samples), samples)
    return percent(value), f"{100 * low:.1f}–{100 * high:.1f}"
