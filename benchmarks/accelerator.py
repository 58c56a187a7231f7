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
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any

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


@dataclass(frozen=True)
class Ran:
    """One purification, and the seconds that it took."""

    result: flain.Purification
    seconds: float


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
    models = {place: _moved(contender, place) for place in ("cpu", device)}
    ran: dict[str, list[Ran]] = {place: [] for place in models}
    for _ in range(repeats + 1):
        for place, (initial, final) in models.items():
            ran[place].append(_ran(contender, initial, final, layer, settings))
    require_alike(ran["cpu"][-1].result, ran[device][-1].result)
    # The first of each warms up.
    here, there = (
        statistics.median(each.seconds for each in ran[place][1:]) for place in ("cpu", device)
    )
    tried = len(ran["cpu"][-1].result.layers[0].steps)
    waits = _waits(contender, models[device], layer, settings) / tried if device != "cpu" else 0.0
    return [f"{tried}", f"{here:.2f} s", f"{there:.2f} s", f"{there / here:.2f}", f"{waits:.1f}"]


def _moved(contender: Contender, place: str) -> tuple[Any, Any]:
    return deepcopy(contender.initial).to(place), deepcopy(contender.final).to(place)


def _ran(
    contender: Contender, initial: Any, final: Any, layer: str, settings: flain.Settings
) -> Ran:
    started = time.perf_counter()
    with warnings.catch_warnings():
        # Where no sample suffers, every candidate is within the tolerance; that is no matter here.
        warnings.simplefilter("ignore", flain.FlainWarning)
        result = flain.purify(
            final,
            initial=initial,
            data=(contender.x, contender.y),
            layers=layer,
            settings=settings,
        )
    return Ran(result, time.perf_counter() - started)


def _waits(
    contender: Contender, models: tuple[Any, Any], layer: str, settings: flain.Settings
) -> int:
    """Count how often a purification waits for the device, as PyTorch warns of each time."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            flain.purify(
                models[1],
                initial=models[0],
                data=(contender.x, contender.y),
                layers=layer,
                settings=settings,
            )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught)


def _name_of(device: str) -> str:
    return "CPU" if device == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    typer.run(main)
