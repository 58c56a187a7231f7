"""Compares the default with the rule of the releases up to 0.1, and with a score of the caller's.

    python benchmarks/default_speed.py

The rule was whole neurons, by accuracy; the score is a function that says which samples are right.
All purify the MNIST network of the published code (fc1: 3,136 input neurons) with 800 MNIST images,
by every backend that is installed. They alternate in one process, on the same model and data; times
are medians of whole calls, and of the seconds that a process spends on its processors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from contenders import Contender, installed
from rich.console import Console
from rich.table import Table

import flain

UP_TO_0_1 = flain.Settings(measure="score", flip="neurons", tolerance=0.002)

Array = npt.NDArray[Any]


def right(scores: Array, y: Array) -> Array:
    """Say which samples are right, as a caller's score function would."""
    said: Array = np.asarray(scores).argmax(axis=1) == y
    return said


WAYS: Mapping[str, Callable[[Contender], object]] = {
    "up to 0.1": lambda contender: contender.purified(UP_TO_0_1),
    "default": lambda contender: contender.purified(None),
    "score=": lambda contender: contender.purified(None, score=right),
}


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Times each; medians are reported.")] = 5,
    backend: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
) -> None:
    """Print what a purification costs by default, and what it cost."""
    table = Table(
        *("backend", *WAYS, "default / up to 0.1", "in CPU seconds"),
        *("score= / default", "in CPU seconds"),
    )
    for name, contender in installed(backend):
        table.add_row(name, *_compared(contender, repeats))
    Console().print(table)


def _compared(contender: Contender, repeats: int) -> list[str]:
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats + 1):
        for way, purify in WAYS.items():
            spent[way].append(_seconds(lambda: purify(contender)))  # noqa: B023  called at once
    # The first of each warms up.
    before, now, scored = (
        [statistics.median(column) for column in zip(*seconds[1:], strict=True)]
        for seconds in spent.values()
    )
    walls = [f"{seconds[0]:.2f} s" for seconds in (before, now, scored)]
    pairs = ((now, before), (scored, now))
    ratios = (new / old for pair in pairs for new, old in zip(*pair, strict=True))
    return [*walls, *(f"{ratio:.2f}" for ratio in ratios)]


def _seconds(purify: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    purify()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    typer.run(main)
