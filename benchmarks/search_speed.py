"""Compares the search with plain re-evaluation, and with the least that a search could cost.

    python benchmarks/search_speed.py

Both run on the MNIST network of the published code (fc1: 3,136 input neurons) with 800 MNIST
images. Plain re-evaluation runs the whole PyTorch network for every threshold, as the published
code does, once with all samples in a single pass and once in batches of 256. Our search is
`flain_core` with `flain_torch`. They alternate in one process, on the same model and data, and have
to give the same accuracy at every threshold, the same neurons and the same weights. Times are
medians. "search" is one pass up to the layer and every candidate; "purify" is the whole call, which
also opens and copies the model, proves the cut and runs the purified model in full.

The floor is what no incremental search can avoid: one pass up to the layer, one product over all
the columns that are flipped in the end, and one tail for each distinct candidate. Only a candidate
that leaves samples as they were can cost less than its tail.

The last table shows what ten times as many thresholds cost; the two grids alternate.
"""

from __future__ import annotations

import json
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from contenders import with_torch
from rich.console import Console
from timing import growth, measure, show, show_growth

console = Console(width=150)
app = typer.Typer(add_completion=False)

_FINER = (1_000, 10_000)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/search_speed.json"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="30 and 150 thresholds only.")] = False,
) -> None:
    """Measure, print, write."""
    case = with_torch()
    measure("warm-up", case, 10, 1, compared=1)
    rows = [
        measure("torch", case, 30, rounds, compared=rounds),
        measure("torch", case, 150, rounds, compared=min(rounds, 3)),
    ]
    if not quick:
        rows.append(measure("torch", case, 1_000, rounds, compared=1))
        rows.append(measure("torch", case, 10_000, rounds, compared=0))
    show(rows, console)
    growths = [growth(case, _FINER, 2 * rounds, stops=stops) for stops in (False, True)]
    show_growth(growths, console)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of the process: {peak:.0f} MiB")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "rows": [row.to_dict() for row in rows],
        "growth": [each.to_dict() for each in growths],
        "peak_memory_mib": round(peak),
        "samples": len(case.y),
        "torch_threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("numpy", "torch")},
    }
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
