"""Compares the default with the rule of the releases up to 0.1: whole neurons, by accuracy.

    python benchmarks/default_speed.py

Both purify the MNIST network of the published code (fc1: 3,136 input neurons) with 800 MNIST
images, by every backend that is installed. They alternate in one process, on the same model and
data; times are medians of whole calls, and of the seconds that a process spends on its processors.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import typer
from contenders import Contender, installed
from rich.console import Console
from rich.table import Table

import flain

UP_TO_0_1 = flain.Settings(measure="score", flip="neurons", tolerance=0.002)


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Times each; medians are reported.")] = 5,
    backend: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
) -> None:
    """Print what a purification costs by default, and what it cost."""
    table = Table("backend", "up to 0.1", "default", "ratio", "ratio of CPU seconds")
    for name, contender in installed(backend):
        table.add_row(name, *_compared(contender, repeats))
    Console().print(table)


def _compared(contender: Contender, repeats: int) -> list[str]:
    spent: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(repeats + 1):
        for default in (False, True):
            spent[default].append(_seconds(contender, None if default else UP_TO_0_1))
    # The first of each warms up.
    before, now = (
        [statistics.median(column) for column in zip(*spent[default][1:], strict=True)]
        for default in (False, True)
    )
    wall, cpu = (new / old for new, old in zip(now, before, strict=True))
    return [f"{before[0]:.2f} s", f"{now[0]:.2f} s", f"{wall:.2f}", f"{cpu:.2f}"]


def _seconds(contender: Contender, settings: flain.Settings | None) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    contender.purified(settings)
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    typer.run(main)
