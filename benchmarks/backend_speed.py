"""Measures how much faster the search is than plain re-evaluation, each framework against itself.

    python benchmarks/backend_speed.py

This is like `search_speed.py`, at 150 thresholds. Plain re-evaluation runs the framework's own
model for every threshold, in a way that the framework's users would call fast (`contenders.py`).
Each framework, and each engine of Keras, has a process of its own. scikit-learn has no
convolutions: it gets the fully connected part of the network, where a full run costs little more
than the layer that is searched.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from contenders import CONTENDERS
from rich.console import Console
from timing import Row, measure, show

console = Console(width=150)
app = typer.Typer(add_completion=False)

_BACKENDS = ("torch", "keras tensorflow", "keras jax", "keras torch", "onnx", "numpy", "sklearn")
_THRESHOLDS = 150


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often our search is timed.")] = 5,
    compared: Annotated[int, typer.Option(min=1, help="How often plain re-evaluation runs.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only these backends.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/backend_speed.json"
    ),
    here: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure each backend in a process of its own, print, write."""
    if here is not None:
        case = CONTENDERS[here.split()[0]]()
        measure("warm-up", case, 5, 1, compared=1)
        row = measure(here, case, _THRESHOLDS, rounds, compared=compared)
        typer.echo(json.dumps(asdict(row)))
        return
    rows = [_in_a_process(backend, rounds, compared) for backend in only or _BACKENDS]
    show(rows, console)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "rows": [row.to_dict() for row in rows],
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _in_a_process(backend: str, rounds: int, compared: int) -> Row:
    engine = backend.partition(" ")[2]
    printed = subprocess.run(
        [
            *(sys.executable, __file__, "--here", backend),
            *(f"--rounds={rounds}", f"--compared={compared}"),
        ],
        env=os.environ | ({"KERAS_BACKEND": engine} if engine else {}),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    row = Row(**json.loads(printed.splitlines()[-1]))
    show([row], console)
    return row


if __name__ == "__main__":
    app()
