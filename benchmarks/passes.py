"""Counts the forward passes of a purification, and weighs the whole call against one of them.

    python benchmarks/passes.py

A pass runs all 800 samples through the network. *Network run* is how many passes' worth of samples
went through it, cut or whole, proofs and the samples held back included. *CPU seconds* is the time
that the process spends on its processors for the whole call, over that for one pass in batches;
what it holds beyond the passes is mostly the arithmetic of the flip in directions. The two
alternate, and medians are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from contenders import Contender, installed
from rich.console import Console
from rich.table import Table

import flain
from flain_core.network import Array, Cut, Network

_SETTINGS = {"default": None, "neurons": flain.Settings(flip="neurons", measure="score")}


@dataclass
class Counted:
    """A network that counts the samples that go through it and through its copies."""

    network: Network
    samples: list[int] = field(default_factory=list)

    def predict(self, x: Array) -> Array:
        """Run a batch."""
        self.samples.append(len(x))
        return self.network.predict(x)

    def cut(self, layer: str, x: Array) -> Cut:
        """Run a batch up to a layer and beyond."""
        self.samples.append(len(x))
        return self.network.cut(layer, x)

    def replace(self, *changed: Mapping[str, Array]) -> Counted:
        """Return a copy whose samples count with these."""
        return Counted(self.network.replace(*changed), self.samples)

    def __getattr__(self, name: str) -> Any:
        """Leave all else to the network."""
        return getattr(self.network, name)


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Times each; medians are reported.")] = 5,
    backend: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
) -> None:
    """Print the passes that a purification takes with every backend that is installed."""
    table = Table("backend", "settings", "network run", "CPU seconds of the call", "of one pass")
    for name, contender in installed(backend):
        for which, settings in _SETTINGS.items():
            counted = Counted(contender.opened)
            contender.purified(settings, model=counted)
            call, one = _seconds(contender, settings, repeats)
            passes = f"{sum(counted.samples) / len(contender.x):.2f} passes"
            table.add_row(name, which, passes, f"{call / one:.1f} passes", f"{one:.3f} s")
    Console().print(table)


def _seconds(
    contender: Contender, settings: flain.Settings | None, repeats: int
) -> tuple[float, float]:
    ways: tuple[Callable[[], object], ...] = (
        lambda: contender.purified(settings),
        lambda: contender.in_batches(contender.weights[1]),
    )
    spent: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        for way, times in zip(ways, spent, strict=True):
            started = time.process_time()
            way()
            times.append(time.process_time() - started)
    # The first of each warms up.
    call, one = (statistics.median(times[1:]) for times in spent)
    return call, one


if __name__ == "__main__":
    typer.run(main)
