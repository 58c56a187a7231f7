"""Compare the times of importing NumPy, flain, and its main call, each in new processes.

    python benchmarks/import_time.py

`import flain` loads nothing, NumPy neither; its first name loads all that is offered. The files are
compiled beforehand, as those of an installed package are.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_TIMED = """
import time
started = time.perf_counter()
{statement}
print(time.perf_counter() - started)
"""
_STATEMENTS = ("import numpy", "import flain", "from flain import purify")


def seconds(statement: str, compiled: str) -> float:
    """Return the wall time of a statement in a new Python process, without the start of Python."""
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def main(rounds: Annotated[int, typer.Option(min=1)] = 21) -> None:
    """Alternate the three and print medians."""
    with tempfile.TemporaryDirectory() as compiled:
        times = [
            [seconds(statement, compiled) for statement in _STATEMENTS] for _ in range(rounds + 1)
        ]
    del times[0]  # as it compiled
    table = Table("statement", "milliseconds", "times as long as NumPy, round by round")
    for place, statement in enumerate(_STATEMENTS):
        median = statistics.median(each[place] for each in times)
        ratio = statistics.median(each[place] / each[0] for each in times)
        table.add_row(statement, f"{median * 1e3:.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
