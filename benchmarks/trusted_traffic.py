"""Counts what trusted holders are sent: if they forget between two questions, and if they do not.

    python benchmarks/trusted_traffic.py

The embedded example is purified with its auxiliary samples spread over three holders. The script
writes the table of docs/federated-auxiliary-data.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from pages import put_into
from rich.console import Console
from rich.table import Table

import flain_core as flain
from flain_cli import example
from flain_core.auxiliary.samples import Samples
from flain_core.federated.holder import answered
from flain_core.federated.trusted import Reply, Trusted
from flain_core.network import Array
from flain_core.opening import registry
from flain_core.outcome.asked import Asked

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Here(Trusted[int]):
    """Holders in this process, who answer as clients of a stack do."""

    kind = "holder"
    argument = "holders"
    id_type = int

    model: str
    parts: list[Samples]
    remember: bool
    holders: Literal["all"] = "all"
    memories: dict[int, dict[str, Array]] = field(default_factory=dict)

    def connected(self) -> Iterable[int]:
        """Return the places of all holders."""
        return range(len(self.parts))

    def send(
        self,
        letters: Mapping[int, Mapping[str, Array]],
        timeout: float,  # noqa: ARG002
    ) -> Mapping[int, Reply]:
        """Answer at once."""
        return {
            holder: partial(
                answered,
                letter,
                self.model,
                (self.parts[holder].x, self.parts[holder].y),
                memory=self.memories.setdefault(holder, {}) if self.remember else None,
            )
            for holder, letter in letters.items()
        }


def measured(*, remember: bool, holders: int) -> tuple[Asked, int]:
    """Purify the example, and return what it took and the bytes of the model."""
    initial, final, auxiliary, *_ = example.files().paths
    samples = Samples.of(auxiliary)
    edges = np.linspace(0, len(samples), holders + 1).astype(int)
    parts = [samples[start:end] for start, end in pairwise(edges)]
    here = Here(model=str(initial), parts=parts, remember=remember)
    result = flain.purify(final, initial=initial, data=here)
    assert result.asked is not None  # noqa: S101
    size = sum(array.nbytes for array in registry.arrays_of(result.model).values())
    return result.asked, size


@app.command()
def main(
    holders: Annotated[int, typer.Option(help="How many hold a part of the samples.")] = 3,
    write: Annotated[bool, typer.Option(help="Write the table into the page.")] = True,
) -> None:
    """Measure, print and write the table."""
    columns = ("a holder", "questions", "sent to each", "of the model", "sent back by each", "time")
    table = Table(*columns)
    rows = []
    for remember, name in ((False, "forgets between two questions"), (True, "keeps the model")):
        asked, size = measured(remember=remember, holders=holders)
        down, up = asked.bytes_down / holders, asked.bytes_up / holders
        rows.append(
            (
                name,
                str(asked.questions),
                f"{down / 1e6:.2f} MB",
                f"{down / size:.2f} times",
                f"{up / 1e6:.3f} MB",
                f"{asked.seconds:.1f} s",
            )
        )
        table.add_row(*rows[-1])
    Console().print(table)
    if write:
        lines = [f"| {' | '.join(row)} |\n" for row in (columns, ["---"] * len(columns), *rows)]
        put_into(Path("docs/federated-auxiliary-data.md"), "".join(lines), what="traffic")


if __name__ == "__main__":
    app()
