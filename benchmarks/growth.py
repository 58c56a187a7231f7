"""Fits how the time of a purification grows with the thresholds, inputs, samples, outputs, layers.

    python benchmarks/growth.py

Each size in turn is doubled a few times while the others stay. The exponent is the slope of CPU
seconds over size, both on logarithmic scales: 1 is linear growth, 0 is none. It writes
benchmarks/results/growth.json.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from random_models import BY_PROBABILITY
from rich.console import Console
from rich.table import Table

import flain
from flain_numpy import Dense, Network, ReLU


def purification(
    inputs: int = 2048, outputs: int = 256, samples: int = 400, layers: int = 1
) -> Callable[[flain.Settings], flain.Purification]:
    """Return a purification of random layers, each of which training changed by a third."""
    rng = np.random.default_rng(0)
    shapes = [(outputs, inputs), *[(outputs, outputs)] * (layers - 1)]
    initial = [rng.normal(size=shape, scale=shape[1] ** -0.5) for shape in shapes]
    final = [each + 0.3 * rng.permutation(each) for each in initial]
    head = rng.normal(size=(10, outputs))

    def network(weights: Sequence[Any]) -> Network:
        operations: list[Any] = []
        for index, weight in enumerate(weights):
            operations += [Dense(f"fc{index}", weight.astype(np.float32)), ReLU()]
        return Network([*operations, Dense("head", head.astype(np.float32))])

    start, trained = network(initial), network(final)
    x = np.maximum(rng.normal(size=(samples, inputs)), 0).astype(np.float32)
    y = trained.predict(x).argmax(axis=1)
    names = [f"fc{index}" for index in range(layers)]
    return lambda settings: flain.purify(
        trained, initial=start, data=(x, y), layers=names, settings=settings
    )


def by_size(name: str, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """Return sizes with the CPU seconds of a purification of that size."""
    return [(size, seconds(purification(**{name: size}), BY_PROBABILITY)) for size in sizes]


def by_thresholds(sizes: Sequence[int]) -> list[tuple[int, float]]:
    """Return numbers of thresholds with the CPU seconds of a search through all of them."""
    purify = purification()
    spread = 0.2
    grids = (flain.Grid(start=0.3, step=spread / size, stop=0.3 + spread) for size in sizes)
    settings = [
        flain.Settings(measure="score", flip="neurons", tolerance=0.9, thresholds=grid)
        for grid in grids
    ]
    return [(size, seconds(purify, each)) for size, each in zip(sizes, settings, strict=True)]


def seconds(purify: Callable[[flain.Settings], Any], settings: flain.Settings) -> float:
    """Return the CPU seconds of a call, the better of two."""
    times = []
    for _ in range(2):
        started = time.process_time()
        purify(settings)
        times.append(time.process_time() - started)
    return min(times)


CASES: dict[str, tuple[Callable[[], list[tuple[int, float]]], str]] = {
    "thresholds": (
        lambda: by_thresholds((50, 100, 200, 400)),
        "at most 1: finer steps change fewer samples each",
    ),
    "inputs": (
        lambda: by_size("inputs", (2048, 4096, 8192, 16384)),
        "1 beyond the number of samples",
    ),
    "samples": (
        lambda: by_size("samples", (160, 320, 640, 1280)),
        "1 to 2: products of all pairs; above 1,024 none",
    ),
    "outputs": (
        lambda: by_size("outputs", (128, 256, 512, 1024)),
        "1 to 3: what they do to the scores is found out; above 1,024 not",
    ),
    "layers": (
        lambda: by_size("layers", (2, 4, 8, 16)),
        "1 to 2: the model is run a few times for each layer",
    ),
}


def main(
    cases: Annotated[list[str] | None, typer.Option("--case", help="Only these.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/growth.json"
    ),
) -> None:
    """Print the exponents."""
    warnings.simplefilter("ignore", flain.FlainWarning)
    table = Table("what grows", "from", "to", "seconds", "exponent", "theory")
    figures: dict[str, Any] = {}
    for name in cases or CASES:
        measure, theory = CASES[name]
        points = measure()
        sizes, times = np.array(points).T
        exponent = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        figures[name] = {"points": points, "exponent": exponent, "theory": theory}
        took = f"{times[0]:.2f} to {times[-1]:.2f}"
        ends = f"{sizes[0]:,.0f}", f"{sizes[-1]:,.0f}"
        table.add_row(name, *ends, took, f"{exponent:.2f}", theory)
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
