"""Purifies LoRA adapters of backdoored federations, and compares statistics and layers.

    FLAIN_DATA=... python benchmarks/lora.py --seed 0 --seed 1 --seed 2 --models FOLDER --write

FOLDER keeps what was trained, a few minutes per seed, and each purified adapter as PEFT saves it.
With --write the script puts the table into docs/lora.md. It fails if a purified adapter that PEFT
loads again scores otherwise than the purified model.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from lora_federation import (
    DEPTH,
    Division,
    VisionTransformer,
    adapted_layers,
    centrally_trained,
    federated,
    share,
)
from pages import put_into
from rich.console import Console
from torch import nn

import flain_core as flain

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "lora.md"
_MOST_DIFFERENT = 1e-5
_TOLERANCE = 0.005

app = typer.Typer(add_completion=False)
console = Console()


@dataclass(frozen=True)
class Way:
    """A way to purify: its name in the table, the layers of each call, and the settings."""

    name: str
    calls: tuple[list[str], ...]
    settings: flain.Settings

    def purified(self, model: nn.Module, division: Division) -> nn.Module:
        """Purify in one call after the other, each with a tolerance of its own."""
        for layers in self.calls:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", flain.FlainWarning)
                model = flain.purify(
                    model,
                    initial=None,
                    data=(division.auxiliary.x, division.auxiliary.y),
                    layers=layers,
                    settings=self.settings,
                    again=True,
                ).model
        return model


def _each_block(*parts: str) -> tuple[list[str], ...]:
    return tuple(adapted_layers(block, [part]) for block in range(DEPTH) for part in parts)


def _directions(factor: float, tolerance: float | None = _TOLERANCE) -> flain.Settings:
    return flain.Settings(flip="directions", factor=factor, tolerance=tolerance)


def _neurons(statistic: Any) -> flain.Settings:
    return flain.Settings(flip="neurons", statistic=statistic, tolerance=_TOLERANCE)


_BOTH = _each_block("key", "value")
CHOSEN = Way("directions, `key` and `value` of both blocks", _BOTH, _directions(4, None))
WAYS = (
    CHOSEN,
    Way("the same, factor 3", _BOTH, _directions(3, None)),
    Way("the same, tolerance 0.005", _BOTH, _directions(4)),
    Way("directions, `key` and `value` of the last block", _BOTH[-2:], _directions(4)),
    Way("directions, `key` of both blocks", _each_block("key"), _directions(4)),
    Way("directions, `value` of both blocks", _each_block("value"), _directions(4)),
    Way("directions, `fc1` and `fc2` of both blocks", _each_block("fc1", "fc2"), _directions(4)),
    *(
        Way(f"neurons by `{statistic}`, `key` and `value` of both blocks", _BOTH, settings)
        for statistic in ("mean", "mean_abs", "rms")
        for settings in [_neurons(statistic)]
    ),
)


@dataclass(frozen=True)
class Row:
    """What is left under one seed, in percent."""

    seed: int
    what: str
    acc: float
    asr: float


def measured(seed: int, what: str, model: nn.Module, division: Division) -> Row:
    """Run a model on all test images, with and without the trigger."""
    row = Row(seed, what, share(model, division.test), share(model, division.triggered))
    console.print(f"seed {seed}: {what}: ACC {row.acc:.1f}, ASR {row.asr:.1f}")
    return row


def rows(seed: int, data: Path, models: Path) -> Iterator[Row]:
    """Train under a seed, unless that was done before, and purify in every way."""
    division = Division.of(data, seed)
    base, model = _trained(seed, division, models)
    yield measured(seed, "trained", model, division)
    yield measured(seed, "adapter off", base, division)
    for way in WAYS:
        purified = way.purified(model, division)
        yield measured(seed, way.name, purified, division)
        if way is CHOSEN:
            _check_file(seed, purified, base, division, models / f"{seed}-purified")


def _check_file(
    seed: int, purified: Any, base: nn.Module, division: Division, folder: Path
) -> None:
    """Exit with an error if the adapter scores otherwise when PEFT has loaded it from its file."""
    from peft import PeftModel

    purified.save_pretrained(folder)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    with torch.no_grad():
        scores = purified.eval()(division.test.x[:1000])
        difference = float((loaded(division.test.x[:1000]) - scores).abs().max())
    console.print(f"seed {seed}: loaded in PEFT, scores differ by {difference:.1e}")
    if not difference <= _MOST_DIFFERENT:
        raise typer.Exit(1)


def _trained(seed: int, division: Division, models: Path) -> tuple[nn.Module, nn.Module]:
    from peft import PeftModel

    stored, folder = models / f"{seed}-base.pt", models / f"{seed}-trained"
    if not folder.exists():
        base = centrally_trained(division.central, seed)
        models.mkdir(parents=True, exist_ok=True)
        torch.save(base.state_dict(), stored)
        model = federated(base, division, seed, lambda told: console.print(f"seed {seed}: {told}"))
        model.save_pretrained(folder)  # type: ignore[operator]
    base = VisionTransformer()
    base.load_state_dict(torch.load(stored, weights_only=True))
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder)
    return base.eval(), loaded.eval()


def table(found: list[Row]) -> str:
    """The table of the page: a row for each way, ACC and ASR for each seed."""
    seeds = sorted({row.seed for row in found})
    cells = {(row.what, row.seed): f"{row.acc:.1f}, {row.asr:.1f}" for row in found}
    lines = [
        f"| | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        f"|---|{'---:|' * len(seeds)}",
        *(
            f"| {what} | {' | '.join(cells[what, seed] for seed in seeds)} |"
            for what in dict.fromkeys(row.what for row in found)
        ),
    ]
    return "\n".join(lines) + "\n"


@app.command()
def main(
    seeds: Annotated[list[int], typer.Option("--seed", help="A seed; several may be given.")],
    models: Annotated[Path, typer.Option(help="Where models are kept.")],
    write: Annotated[bool, typer.Option(help="Put the table into docs/lora.md.")] = False,
) -> None:
    """Train, purify, and print the table."""
    torch.set_num_threads(1)
    data = Path(os.environ["FLAIN_DATA"])
    found = [row for seed in seeds for row in rows(seed, data, models)]
    console.print(table(found))
    if write:
        put_into(_PAGE, table(found))


if __name__ == "__main__":
    app()
