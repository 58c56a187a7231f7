"""Measures what one holder of auxiliary samples that lies can do, by how findings are merged.

    python benchmarks/lying_holders.py

The embedded example is purified with its auxiliary samples spread over 3, 5 and 10 holders, the
first of which tells the lies of lies.py. The script writes the table of
docs/federated-auxiliary-data.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from lies import LIES, Lie
from pages import put_into
from rich.console import Console
from rich.table import Table

import flain_core as flain
from flain_cli import example
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import Holder
from flain_core.federated.merging import Merging, Rule
from flain_core.federated.messages import Answer, Question
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.network import Network
from flain_core.opening import registry
from flain_core.samples import Samples

_RULES: tuple[Rule, ...] = get_args(Rule)
_HOLDERS = (3, 5, 10)
_HONEST = "none lies"
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Holders:
    """Holders in this process, the first of which lies.

    Implements :class:`~flain_core.federated.coordinator.Holders`.
    """

    parts: Sequence[Samples]
    lie: Lie | None = None
    lookahead: int = 128

    def open(self, network: Network) -> None:
        """Give everyone the trained model."""
        held = Holder(network, *map(LocalSamples, self.parts))
        object.__setattr__(self, "_held", held)

    def ask(self, question: Question) -> Mapping[str, Answer]:
        """Return everyone's answer."""
        held: Holder = getattr(self, "_held")  # noqa: B009
        first, *others = held.answers(question)
        first = self.lie(question, first) if self.lie else first
        return {f"holder {number:03}": each for number, each in enumerate((first, *others))}


@dataclass(frozen=True)
class Row:
    """The accuracies and attack success rates that are left, in percent, by merging rule."""

    holders: int
    lie: str
    acc: Mapping[Rule, float]
    asr: Mapping[Rule, float]

    @property
    def cells(self) -> list[str]:
        """The row in print."""
        left = [f"{self.acc[rule]:.1f}, {self.asr[rule]:.1f}" for rule in self.acc]
        return [str(self.holders), self.lie, *left]


def measured(holders: int, lie: str) -> Row:
    """Purify the example with as many holders, one of which tells a lie, by each rule."""
    initial, final, auxiliary, clean, triggered = example.files().paths
    start, trained = map(registry.open_network, (initial, final))
    samples = Samples.of(auxiliary)
    shuffled = np.random.default_rng(0).permutation(len(samples))
    parts = [samples[np.sort(part)] for part in np.array_split(shuffled, holders)]
    held_out = LocalScorer(LocalSamples(Samples.of(clean), {"ASR": Samples.of(triggered)}))
    acc: dict[Rule, float] = {}
    asr: dict[Rule, float] = {}
    for rule in _RULES:
        asked = Holders(parts, LIES.get(lie))
        data = CoordinatedSamples(asked, Merging(rule), may_leave=True, least=holders)
        with warnings.catch_warnings():
            # What a search under a lie is warned of is no news here.
            warnings.simplefilter("ignore", flain.FlainWarning)
            purified = flain.purify(trained, initial=start, data=data).model
        left = held_out.score_of(registry.open_network(purified))
        acc[rule], asr[rule] = 100 * left.clean.mean, 100 * left.probes["ASR"].mean
    return Row(holders, lie, acc, asr)


def rows() -> Iterator[Row]:
    """Measure every lie with every number of holders."""
    for holders in _HOLDERS:
        for lie in (_HONEST, *LIES):
            yield measured(holders, lie)


def _headings() -> list[str]:
    return ["holders", "one of them says", *(f'`"{rule}"`' for rule in _RULES)]


def markdown(measured: Sequence[Row]) -> str:
    """Return the table of the page."""
    lines = [_headings(), ["---"] * len(_headings()), *(row.cells for row in measured)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@app.command()
def main(
    page: Annotated[Path, typer.Option(help="The page that holds the table.")] = Path(
        "docs/federated-auxiliary-data.md"
    ),
) -> None:
    """Measure, print, and write the table."""
    table = Table(*_headings())
    found = []
    for row in rows():
        found.append(row)
        table.add_row(*row.cells)
    Console().print(table)
    put_into(page, markdown(found))


if __name__ == "__main__":
    app()
