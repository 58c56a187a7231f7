"""Compare the times of `import flain_core` and `import numpy`, each in new processes.

python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console

_TIMED = """
import time
started = time.perf_counter()
import {module}
print(time.perf_counter() - started)
"""


def seconds(module: str) -> float:
    """Return the wall time of an import in a new Python process, without the start of Python."""
    command = [sys.executable, "-c", _TIMED.format(module=module)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


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
