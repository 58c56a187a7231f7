"""Checks that one network gets the same threshold, flips and weights in every framework.

    python benchmarks/parity.py

Four trained networks are built as PyTorch modules, Keras models on each engine, ONNX files from
each exporter, NumPy networks and scikit-learn perceptrons, and some of their layers are purified
with the default settings, with the published code's, and neuron by neuron as the accuracy allows.
Every answer has to be the same as PyTorch's. If a framework cannot express a network, or an
exporter spoils it, the table gives the reason. The script writes the table of docs/parity.md and
benchmarks/results/parity.json.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from pages import put_into
from parity_comparison import HEADINGS, Row, compare, markdown, require_parity
from parity_questions import QUESTIONS, WAYS
from rich.console import Console
from rich.table import Table

_NETWORKS = tuple(dict.fromkeys(question.network for question in QUESTIONS))
_VERSIONS = (
    *("numpy", "torch", "keras", "tensorflow", "tensorflow-cpu", "jax", "onnx", "onnxruntime"),
    *("onnxscript", "tf2onnx", "scikit-learn"),
)
console = Console()
app = typer.Typer(add_completion=False)


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*row.cells)
    console.print(table)


def _versions() -> Iterator[tuple[str, str]]:
    for name in _VERSIONS:
        with suppress(PackageNotFoundError):
            yield name, version(name)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/parity.json"
    ),
    page: Annotated[Path, typer.Option(help="The page that holds the table.")] = Path(
        "docs/parity.md"
    ),
) -> None:
    """Compare, print, write, and fail if an answer differs from PyTorch's."""
    with tempfile.TemporaryDirectory() as folder:
        rows = list(compare(_NETWORKS, WAYS, Path(folder)))
    show(rows)
    for row in rows:
        require_parity(row)
    figures = {
        "rows": [asdict(row) for row in rows],
        "versions": dict(_versions()),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    put_into(page, markdown(rows))


if __name__ == "__main__":
    app()
