"""Reports the progress of a search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from .outcome.layer import Step


@dataclass(frozen=True)
class Progress:
    """One step of a search.

    Attributes:
        layer: The layer that is searched.
        step: The candidate that was just scored.
        done: Number of candidates scored so far.
        events: Number of candidates at most; the search usually stops long before.

    Example:
        >>> step = Step(threshold=0.25, neurons_flipped=12, clean=0.97)
        >>> progress = Progress("fc1", step, done=3, events=40)
        >>> f"{progress.layer}: {progress.done} of at most {progress.events}"
        'fc1: 3 of at most 40'
    """

    layer: str
    step: Step
    done: int
    events: int


_LINES_IN_A_LOG = 20

OnProgress: TypeAlias = Callable[[Progress], None]
"""Called after each step of a search."""


@contextmanager
def listening(progress: bool | OnProgress) -> Iterator[OnProgress]:
    """Yield the function to call: the caller's own, one that writes to stderr, or a silent one."""
    if callable(progress):
        yield progress
    elif progress:
        try:
            yield _write_line
        finally:
            if sys.stderr.isatty():
                sys.stderr.write("\n")
    else:
        yield lambda _: None


def _write_line(progress: Progress) -> None:
    step = progress.step
    line = (
        f"{progress.layer}: candidate {progress.done} of at most {progress.events}, "
        f"{step.neurons_flipped} neurons flipped, clean score {step.clean:.4f}"
    )
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line} ")
    elif progress.done % max(1, progress.events // _LINES_IN_A_LOG) == 0:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
