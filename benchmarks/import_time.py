"""What `import flain_core` costs beside `import numpy`, each in processes of its own.

python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Annotated

import typer
from rich.console import Console


def seconds(module: str) -> float:
    """Wall time of a Python process that imports a module and ends."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - started


def main(rounds: Annotated[int, typer.Option(min=1)] = 21) -> None:
    """Alternate the two and print medians."""
    pairs = [(seconds("numpy"), seconds("flain_core")) for _ in range(rounds)]
    numpy, core = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(core / numpy for numpy, core in pairs)
    Console().print(
        f"import numpy {numpy * 1e3:.0f} ms, import flain_core {core * 1e3:.0f} ms, "
        f"ratio pair by pair {ratio:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
