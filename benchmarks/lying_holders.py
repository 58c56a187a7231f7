"""Measures what holders of auxiliary samples that lie can do, by how findings are merged.

    python benchmarks/lying_holders.py

The embedded example is purified with its auxiliary samples spread over 3, 5 and 10 holders. The
first of them tells the lies of lies.py; then the first few follow the plots of plots.py. The script
writes the tables of docs/lying-holders.md.
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
from plots import PLOTS, Plot, told
from rich.console import Console
from rich.table import Table

import flain_core as flain
from flain_cli import example
from flain_core.auxiliary.samples import Samples
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import Holder
from flain_core.federated.merging import Merging, Rule
from flain_core.federated.messages import Answer, Question
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.network import Network
from flain_core.opening import registry

_RULES: tuple[Rule, ...] = get_args(Rule)
_HONEST = "nothing but the truth"
_PLOTS: Mapping[str, Plot] = {
    _HONEST: (),
    **{says: (lie,) for says, lie in LIES.items()},
    **PLOTS,
}
_HEADINGS = ["holders that lie", "what they say", *(f'`"{rule}"`' for rule in _RULES)]
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Holders:
    """Holders in this process, the first of which lie.

    Implements :class:`~flain_core.federated.coordinator.Holders`.
    """

    parts: Sequence[Samples]
    lies: Sequence[Lie] = ()
    lookahead: int = 128

    def open(self, network: Network) -> None:
        """Give everyone the trained model."""
        held = Holder(network, *map(LocalSamples, self.parts))
        object.__setattr__(self, "_held", held)

    def ask(self, question: Question) -> Mapping[str, Answer]:
        """Return everyone's answer."""
        held: Holder = getattr(self, "_held")  # noqa: B009
        answers = held.answers(question)
        for number, lie in enumerate(self.lies):
            answers[number] = lie(question, answers[number])
        return {f"holder {number:03}": answer for number, answer in enumerate(answers)}


@dataclass(frozen=True)
class Group:
    """Some holders, and how many of them lie.

    ``by_class`` gives each holder samples of other classes; otherwise all hold a random part.
    """

    holders: int
    liars: int
    by_class: bool = False

    def __str__(self) -> str:
        return f"{self.liars} of {self.holders}" + (", by class" if self.by_class else "")

    def parts(self, samples: Samples) -> list[Samples]:
        """Spread samples over the holders."""
        if self.by_class:
            order = np.argsort(samples.y, kind="stable")
        else:
            order = np.random.default_rng(0).permutation(len(samples))
        return [samples[np.sort(part)] for part in np.array_split(order, self.holders)]


TABLES: Mapping[str, tuple[Sequence[Group], Mapping[str, object]]] = {
    "one liar": ([Group(holders, 1) for holders in (3, 5, 10)], LIES),
    "colluders": ([Group(5, 2), Group(10, 2), Group(10, 4), Group(10, 5)], PLOTS),
    "colluders among holders of other classes": (
        [Group(5, 2, by_class=True), Group(10, 4, by_class=True)],
        PLOTS,
    ),
}


@dataclass(frozen=True)
class Row:
    """The accuracies and attack success rates that are left, in percent, by merging rule."""

    group: Group
    says: str
    acc: Mapping[Rule, float]
    asr: Mapping[Rule, float]

    @property
    def cells(self) -> list[str]:
        """The row in print."""
        left = [f"{self.acc[rule]:.1f}, {self.asr[rule]:.1f}" for rule in self.acc]
        return [str(self.group), self.says, *left]


def measured(group: Group, says: str = _HONEST) -> Row:
    """Purify the example with its samples at a group of holders, by each rule.

    ``says`` names a lie or a plot.
    """
    initial, final, auxiliary, clean, triggered = example.files().paths
    start, trained = map(registry.open_network, (initial, final))
    parts = group.parts(Samples.of(auxiliary))
    plot = _PLOTS[says]
    held_out = LocalScorer(LocalSamples(Samples.of(clean), {"ASR": Samples.of(triggered)}))
    acc: dict[Rule, float] = {}
    asr: dict[Rule, float] = {}
    for rule in _RULES:
        asked = Holders(parts, told(plot, group.liars if plot else 0))
        data = CoordinatedSamples(asked, Merging(rule), may_leave=True, least=group.holders)
        with warnings.catch_warnings():
            # What a search under a lie is warned of is no news here.
            warnings.simplefilter("ignore", flain.FlainWarning)
            purified = flain.purify(trained, initial=start, data=data).model
        left = held_out.score_of(registry.open_network(purified))
        acc[rule], asr[rule] = 100 * left.clean.mean, 100 * left.probes["ASR"].mean
    return Row(group, says, acc, asr)


def rows(of: str) -> Iterator[Row]:
    """Measure what is said, of a table, by each of its groups."""
    groups, said = TABLES[of]
    for group in groups:
        for says in (_HONEST, *said):
            yield measured(group, says)


def markdown(measured: Sequence[Row]) -> str:
    """Return a table of the page."""
    lines = [_HEADINGS, ["---"] * len(_HEADINGS), *(row.cells for row in measured)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@app.command()
def main(
    page: Annotated[Path, typer.Option(help="The page that holds the tables.")] = Path(
        "docs/lying-holders.md"
    ),
) -> None:
    """Measure, print, and write the tables."""
    for of in TABLES:
        table = Table(*_HEADINGS, title=of)
        found = []
        for row in rows(of):
            found.append(row)
            table.add_row(*row.cells)
        Console().print(table)
        put_into(page, markdown(found), what=of)


if __name__ == "__main__":
    app()
