"""Measures what a purification adds to the memory of a process, beyond the models and the samples.

    python benchmarks/memory.py

Two large layers, with random weights, are purified under several memory limits, each in a process
of its own. ``memory_limit`` bounds what is kept at the layer. A purification may take that, and two
copies of the layer's weight: the model that it returns, and the one that it is working on. The
last column says whether it stayed within.

Linux only: the peak is the kernel's ``VmHWM``, set back once models and samples are there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from random_models import BY_PROBABILITY
from rich.console import Console
from rich.table import Table
from torch import nn

import flain
from flain_core.blocks import give_back_freed

MIB = 2**20
app = typer.Typer(add_completion=False)


def dense() -> tuple[nn.Module, nn.Module, tuple[int, ...], str]:
    """The first dense layer of VGG-16, and what follows it, shortened."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(25_088, 4_096), nn.ReLU(), nn.Linear(4_096, 10))

    return network(), network(), (800, 25_088), "0"


def conv() -> tuple[nn.Module, nn.Module, tuple[int, ...], str]:
    """A convolution of 64 channels on 112 × 112 places."""

    def network() -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )

    return network(), network(), (200, 3, 224, 224), "2"


CASES = {"dense": dense, "conv": conv}


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    limits: Annotated[list[int] | None, typer.Option("--limit", help="MiB; repeat.")] = None,
    cases: Annotated[list[str] | None, typer.Option("--case", help="Only these.")] = None,
) -> None:
    """Print the table."""
    # Without this, each process that measures one case would start all of them again.
    if context.invoked_subcommand:
        return
    table = Table("layer", "limit", "added at most", "allowed", "seconds", "searched", "within")
    for name in cases or CASES:
        for limit in limits or (256, 2048):
            told = json.loads(
                subprocess.run(
                    [sys.executable, __file__, "one", name, str(limit)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            table.add_row(
                name,
                f"{limit} MiB",
                f"{told['added']:.0f} MiB",
                f"{told['allowed']:.0f} MiB",
                f"{told['seconds']:.0f}",
                told["method"],
                "yes" if told["added"] <= told["allowed"] else "NO",
            )
    Console().print(table)


@app.command(hidden=True)
def one(name: str, limit: int) -> None:
    """Purify one layer, and write what it took as JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    initial, final, shape, layer = CASES[name]()
    for start, end in zip(initial.parameters(), final.parameters(), strict=True):
        end.data = start.data + 0.3 * (end.data - start.data)
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=shape), 0).astype(np.float32)
    with torch.no_grad():
        y = np.concatenate([final(torch.from_numpy(part)).argmax(1) for part in np.split(x, 20)])
    give_back_freed()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        result = flain.purify(
            final,
            initial=initial,
            data=(x, y),
            layers=layer,
            settings=BY_PROBABILITY,
            memory_limit=limit * MIB,
        )
    weight: Any = final.get_submodule(layer).weight
    told = {
        "added": (resident("VmHWM") - before) / MIB,
        "allowed": limit + 2 * weight.nbytes / MIB,
        "seconds": time.perf_counter() - started,
        "method": f"{result.layers[0].flip}, {result.layers[0].method}",
    }
    typer.echo(json.dumps(told))


def resident(field: str) -> int:
    """Return a field of what the kernel says of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"expected the kernel to tell {field}")


if __name__ == "__main__":
    app()
