"""Times the first purification of a process, and those that follow it.

    python benchmarks/cold_start.py

It purifies the MNIST network of the published code with 800 images and the default settings. Each
measurement is a process of its own: it imports the framework, then flain and its backend, makes the
models, and purifies twice. Medians are reported; Keras's engines compile in the first call.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_PROGRAM = """
import json, sys, time
sys.path.insert(0, {folder!r})
started = time.perf_counter()
import {framework}
framework = time.perf_counter()
import flain
flain.purify  # as that loads what is offered
flain_imported = time.perf_counter()
import contenders
contender = contenders.CONTENDERS[{backend!r}]()
contender.y
calls = []
for _ in range(2):
    began = time.perf_counter()
    contender.purified(None)
    calls.append(time.perf_counter() - began)
print(json.dumps([framework - started, flain_imported - framework, *calls]))
"""
_PROCESSES = {
    "PyTorch": ("torch", "torch", {}),
    "Keras on TensorFlow": ("keras", "keras", {"KERAS_BACKEND": "tensorflow"}),
    "Keras on JAX": ("keras", "keras", {"KERAS_BACKEND": "jax"}),
    "Keras on PyTorch": ("keras", "keras", {"KERAS_BACKEND": "torch"}),
    "ONNX": ("onnx", "onnxruntime", {}),
    "NumPy": ("numpy", "numpy", {}),
    "scikit-learn, the dense part alone": ("sklearn", "sklearn", {}),
}


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Processes each.")] = 3,
    only: Annotated[str, typer.Option(help="Part of a name.")] = "",
) -> None:
    """Print the table."""
    table = Table("", "import of the framework", "of flain", "first call", "second", "ratio")
    for name, (backend, framework, environment) in _PROCESSES.items():
        if only not in name:
            continue
        runs = [_seconds(backend, framework, environment) for _ in range(repeats)]
        found = [statistics.median(column) for column in zip(*runs, strict=True)]
        ratio = f"{found[2] / found[3]:.1f}"
        table.add_row(name, *(f"{seconds:.2f} s" for seconds in found), ratio)
    Console().print(table)


def _seconds(backend: str, framework: str, environment: dict[str, str]) -> list[float]:
    folder = os.path.dirname(os.path.abspath(__file__))
    program = _PROGRAM.format(folder=folder, framework=framework, backend=backend)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | quiet | environment,
    )
    seconds: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return seconds


if __name__ == "__main__":
    typer.run(main)
