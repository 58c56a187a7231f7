"""Follows a search on stderr: a bar with the remaining time, or now and then a line in a log."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

import flain_core as flain
from flain_core.progress import OnProgress

from .terminal import can_show, err, one_line, shown

SECONDS_BETWEEN_LINES = 30.0
"""How often a search that goes on says so where no bar can be drawn."""


@contextmanager
def searching(*, quiet: bool = False) -> Iterator[OnProgress]:
    """Yield what follows a search; most searches end long before they have tried everything."""
    with warnings.catch_warnings():
        # Each time, also where several models are purified in a process.
        warnings.simplefilter("always", flain.FlainWarning)
        if quiet:
            yield lambda _: None
        elif can_show(err):
            with _bar() as bar:
                yield _Drawn(bar)
        else:
            yield _Logged()


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        _TimeLeft(),
        console=err,
        transient=True,
    )


class _Drawn:
    """Draws a bar for each layer."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: flain.Progress) -> None:
        if progress.layer not in self._tasks:
            self._tasks[progress.layer] = self._bar.add_task(
                shown(progress.layer), total=progress.events, state=""
            )
        task = self._tasks[progress.layer]
        self._bar.update(task, completed=progress.done, state=shown(_state(progress)))


class _Logged:
    """Writes a line now and then."""

    def __init__(self) -> None:
        self._layer = ""
        self._began = self._said = time.monotonic()

    def __call__(self, progress: flain.Progress) -> None:
        now = time.monotonic()
        if progress.layer != self._layer:
            self._layer, self._began = progress.layer, now
        if now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        left = (now - self._began) / progress.done * (progress.events - progress.done)
        line = (
            f"{progress.layer}: {progress.done} of at most {progress.events} candidates, "
            f"{_state(progress)}, {_in_words(left)}"
        )
        err.print(one_line(line), markup=False, soft_wrap=True)


class _TimeLeft(ProgressColumn):
    """Shows the time that is left at most."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else _in_words(left))


def _state(progress: flain.Progress) -> str:
    scores = {"clean": progress.step.clean, **progress.step.probes}
    return f"{progress.step.neurons_flipped} flipped, " + ", ".join(
        f"{name} {score:.1%}" for name, score in scores.items()
    )


def _in_words(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"at most {hours}:{minutes:02}:{rest:02} left"
