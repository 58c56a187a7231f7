"""Checks that an accelerator gives the CPU's answer, and compares what both take.

    python benchmarks/accelerator.py

It purifies layers of the published code's MNIST network in PyTorch, with 800 images, on the CPU
and on the device: the dense layer in directions and by neurons, and a convolution. Weights are
random, and the labels are what the model gives. The flips have to be the same, and thresholds and
scores have to agree; else it fails. Times are medians of whole calls, which alternate. *Waits* is
how often a call waited for the device, for each candidate that it tried. Where there is no device,
it says so.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Annotated

import numpy as np
import torch
import typer
from contenders import Contender, with_torch
from rich.console import Console
from rich.table import Table

import flain

_AGREEMENT = 1e-4
_CASES = {
    "dense, in directions": ("fc1", flain.Settings()),
    "dense, by neurons": ("fc1", flain.Settings(flip="neurons")),
    "convolution": ("conv2", flain.Settings()),
}


class DifferError(Exception):
    """The device gives another answer than the CPU."""


def main(
    device: Annotated[str, typer.Option(help="As PyTorch calls it.")] = "cuda",
    repeats: Annotated[int, typer.Option(min=1, help="Times each; medians are reported.")] = 3,
) -> None:
    """Print the table."""
    if device != "cpu" and not torch.cuda.is_available():
        Console().print(f"left out: PyTorch sees no CUDA device, so nothing can run on {device!r}")
        return
    contender = with_torch()
    table = Table("layer", "candidates", "CPU", device, "ratio", "waits", title=_name_of(device))
    for name, (layer, settings) in _CASES.items():
        table.add_row(name, *_compared(contender, layer, settings, device, repeats))
    Console().print(table)


def require_alike(here: flain.Purification, there: flain.Purification) -> None:
    """Raise :class:`DifferError` unless two purifications of a layer are one answer."""
    (one,), (other,) = here.layers, there.layers
    if not np.array_equal(one.flipped, other.flipped) or one.stop_reason != other.stop_reason:
        raise DifferError(f"expected {one}; the device gives {other}")
    expected, given = (
        [*(step.threshold or 0.0 for step in layer.steps), layer.share, result.after.clean]
        for layer, result in ((one, here), (other, there))
    )
    if len(expected) != len(given) or not np.allclose(
        given, expected, rtol=_AGREEMENT, atol=_AGREEMENT
    ):
        raise DifferError(f"thresholds or scores differ: expected {here}; the device gives {there}")


def _compared(
    contender: Contender, layer: str, settings: flain.Settings, device: str, repeats: int
) -> list[str]:
    def moved(place: str) -> Callable[[], flain.Purification]:
        model, initial = (deepcopy(each).to(place) for each in (contender.final, contender.initial))
        return lambda: contender.purified(settings, model=model, initial=initial, layers=layer)

    ways = moved("cpu"), moved(device)
    spent: tuple[list[float], list[float]] = [], []
    for _ in range(repeats + 1):
        results = []
        for way, seconds in zip(ways, spent, strict=True):
            started = time.perf_counter()
            results.append(way())
            seconds.append(time.perf_counter() - started)
    require_alike(*results)
    # The first of each warms up.
    here, there = (statistics.median(seconds[1:]) for seconds in spent)
    tried = len(results[0].layers[0].steps)
    waits = 0.0 if device == "cpu" else _waits(ways[1]) / tried
    return [f"{tried}", f"{here:.2f} s", f"{there:.2f} s", f"{there / here:.2f}", f"{waits:.1f}"]


def _waits(way: Callable[[], flain.Purification]) -> int:
    """Count how often a purification waits for the device, as PyTorch warns of each time."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            way()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def _name_of(device: str) -> str:
    return "CPU" if device == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    typer.run(main)
