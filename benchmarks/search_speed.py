"""How much faster the search is than plain re-evaluation, and how far from the least it could cost.

    python benchmarks/search_speed.py

On the MNIST network of the published code (fc1: 3,136 input neurons) with 800 MNIST images. Plain
re-evaluation runs the whole PyTorch network for every threshold, as the published code does; ours
is `flain_core` with `flain_torch`. They alternate in one process, on the same model and data, and
have to give the same accuracy at every threshold, the same neurons and the same weights. Times are
medians. "search" is one pass up to the layer and every candidate; "purify" is the whole call, which
also opens and copies the model, proves the cut and runs the purified model in full.

The floor is what no incremental search can avoid: one pass up to the layer, one product over all
the columns that are flipped in the end, and one tail for each distinct candidate.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from plain import PlainResult, plain_reevaluation
from rich.console import Console
from rich.table import Table
from torch import nn

import flain_core as flain
import flain_torch
from flain_cli import example
from flain_core import Grid, Settings
from flain_core.auxiliary import Samples
from flain_core.examination import Examination
from flain_core.flipping_order import FlippingOrder
from flain_core.schedule import Schedule
from flain_core.search import search
from flain_core.threads import one_blas_thread, one_thread_for

LAYER = "fc1"
T = TypeVar("T")
console = Console()
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Case:
    """A network as training might have left it, the samples, and where the thresholds lie."""

    initial: nn.Module
    final: nn.Module
    x: torch.Tensor
    y: Any
    highest: float

    def grid(self, thresholds: int) -> Grid:
        """So many thresholds from 0 to the median activation."""
        return Grid(start=0.0, step=self.highest / (thresholds - 1), stop=self.highest)


def network() -> nn.Module:
    """The published code's MNIST network."""
    parts: list[tuple[str, nn.Module]] = [
        *(("conv1", nn.Conv2d(1, 32, 3, padding=1)), ("relu1", nn.ReLU())),
        *(("pool1", nn.MaxPool2d(2)), ("conv2", nn.Conv2d(32, 64, 3, padding=1))),
        *(("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2)), ("flatten", nn.Flatten())),
        *(("dropout1", nn.Dropout()), ("fc1", nn.Linear(3136, 128)), ("relu3", nn.ReLU())),
        *(("dropout2", nn.Dropout()), ("fc2", nn.Linear(128, 62))),
    ]
    return nn.Sequential(OrderedDict(parts)).eval()


def make_case(seed: int = 0) -> Case:
    """A random network with a random update, which costs what a trained one costs."""
    torch.manual_seed(seed)
    initial, final = network(), network()
    final.load_state_dict(initial.state_dict())
    with torch.no_grad():
        for parameter in final.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.5)
    with np.load(example.files().paths[2]) as auxiliary:
        x = torch.from_numpy(auxiliary["x"])
    opened = flain_torch.open_network(final)
    activation = opened.cut(LAYER, x.numpy()).inputs.mean(axis=0)
    y = opened.predict(x.numpy()).argmax(axis=1)
    return Case(initial, final, x, y, float(np.median(activation)))


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are medians over the rounds."""

    thresholds: int
    stops: bool
    candidates: int
    plain_seconds: float | None
    search_seconds: float
    purify_seconds: float
    floor_seconds: float

    @property
    def ratio(self) -> float | None:
        """Plain re-evaluation over the search."""
        return self.plain_seconds / self.search_seconds if self.plain_seconds else None

    @property
    def ratio_whole(self) -> float | None:
        """Plain re-evaluation over the whole call, its proof and its verification included."""
        return self.plain_seconds / self.purify_seconds if self.plain_seconds else None


def plain(case: Case, grid: Grid) -> PlainResult:
    """Every threshold a full run of the PyTorch network with the weight copied in."""
    layer = case.final.get_submodule(LAYER)
    weight_in_use = layer.get_parameter("weight")
    final = weight_in_use.detach().numpy().copy()
    inputs: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))

    def run(weight: Any) -> Any:
        with torch.no_grad():
            weight_in_use.copy_(torch.from_numpy(weight))
            return case.final(case.x).numpy()

    try:
        run(final)
        handle.remove()
        return plain_reevaluation(
            case.initial.state_dict()[f"{LAYER}.weight"].numpy(),
            final,
            inputs[0].numpy().mean(axis=0, dtype=np.float64),
            run,
            case.y,
            thresholds=grid.thresholds(),
            tolerance=2.0,
        )
    finally:
        with torch.no_grad():
            weight_in_use.copy_(torch.from_numpy(final))


def ours(case: Case, settings: Settings) -> flain.Purification:
    """The whole call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(
            case.final,
            initial=case.initial,
            data=(case.x, case.y),
            layers=LAYER,
            settings=settings,
        )


@dataclass(frozen=True)
class Opened:
    """Both networks opened, so that only the search is timed."""

    final: flain.Network
    initial: Any
    examination: Examination

    def search(self, settings: Settings) -> tuple[Schedule, int]:
        """One pass up to the layer, then the candidates; and how many of them were tried."""
        study = self.examination.study(self.final, LAYER)
        schedule = Schedule.of(study.statistics.mean, settings.thresholds)
        layer = self.final.layers()[LAYER]
        flipping = FlippingOrder(self.final, layer, self.initial, settings.factor, schedule.order)
        with study.incremental(flipping, window=2e-5) as candidates:
            found = search(schedule, candidates, settings, candidates.advance([0])[0].clean)
        return schedule, len(found.steps)

    def floor(self, schedule: Schedule, tried: int) -> None:
        """One pass up to the layer, one product, one tail for each candidate tried."""
        x = self.examination.clean.x
        cut = self.final.cut(LAYER, x)
        flipped = schedule.order[: int(schedule.ends[tried - 1])]
        output = cut.output - cut.linear(self.final.layers()[LAYER].weight, flipped)
        with one_thread_for(output.nbytes):
            for _ in range(tried):
                cut.tail(output)


def seconds(call: Callable[[], T]) -> tuple[float, T]:
    """Wall time of a call, and what it returned."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def measure(case: Case, thresholds: int, rounds: int, *, compared: int, stops: bool) -> Row:
    """Alternate the ways, assert that they agree, and take medians.

    Args:
        case: What is searched.
        thresholds: In the grid.
        rounds: How often each of our ways is timed.
        compared: In how many of the rounds plain re-evaluation runs as well.
        stops: Whether the default tolerance ends the search, or nothing does.
    """
    grid = case.grid(thresholds)
    settings = Settings(thresholds=grid) if stops else Settings(thresholds=grid, tolerance=1.0)
    opened = Opened(
        flain_torch.open_network(case.final),
        case.initial.state_dict()[f"{LAYER}.weight"].numpy(),
        Examination(Samples.of((case.x, case.y))),
    )
    times: dict[str, list[float]] = {"plain": [], "search": [], "purify": [], "floor": []}
    tried = 0
    for number in range(rounds):
        with one_blas_thread():
            took, (schedule, tried) = seconds(lambda: opened.search(settings))
            times["search"].append(took)
            took, _ = seconds(partial(opened.floor, schedule, tried))
            times["floor"].append(took)
        took, result = seconds(lambda: ours(case, settings))
        times["purify"].append(took)
        if number < compared:
            took, expected = seconds(lambda: plain(case, grid))
            times["plain"].append(took)
            assert_same(result, expected, grid)
    middle = {name: statistics.median(taken) for name, taken in times.items() if taken}
    return Row(
        thresholds=thresholds,
        stops=stops,
        candidates=tried,
        plain_seconds=middle.get("plain"),
        search_seconds=middle["search"],
        purify_seconds=middle["purify"],
        floor_seconds=middle["floor"],
    )


def assert_same(result: flain.Purification, expected: PlainResult, grid: Grid) -> None:
    """The same accuracy at every threshold, the same neurons, the same weights."""
    layer = result.layers[0]
    accuracy = dict(zip(grid.thresholds().tolist(), expected.accuracies, strict=True))
    for step in layer.steps:
        if step.clean != accuracy[step.threshold]:
            raise AssertionError(f"{step} differs from {accuracy[step.threshold]}")
    np.testing.assert_array_equal(layer.flipped, expected.flipped)
    weight = result.model.state_dict()[f"{LAYER}.weight"].numpy()
    np.testing.assert_allclose(weight, expected.weight, rtol=1e-6, atol=1e-7)


def show(rows: list[Row]) -> None:
    """A table."""
    table = Table(
        *("thresholds", "stops", "candidates", "plain s", "search s", "plain / search"),
        *("purify s", "plain / purify", "search / floor"),
    )
    for row in rows:
        table.add_row(
            f"{row.thresholds:,}",
            "at the tolerance" if row.stops else "never",
            f"{row.candidates:,}",
            "" if row.plain_seconds is None else f"{row.plain_seconds:.1f}",
            f"{row.search_seconds:.3f}",
            "" if row.ratio is None else f"{row.ratio:.0f}",
            f"{row.purify_seconds:.3f}",
            "" if row.ratio_whole is None else f"{row.ratio_whole:.0f}",
            f"{row.search_seconds / row.floor_seconds:.2f}",
        )
    console.print(table)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/search_speed.json"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="30 and 150 thresholds only.")] = False,
) -> None:
    """Measure, print, write."""
    case = make_case()
    measure(case, 10, 1, compared=1, stops=False)
    rows = [
        measure(case, 30, rounds, compared=rounds, stops=False),
        measure(case, 150, rounds, compared=min(rounds, 3), stops=False),
    ]
    if not quick:
        rows.append(measure(case, 1_000, rounds, compared=1, stops=False))
        rows.append(measure(case, 10_000, rounds, compared=0, stops=False))
        rows.append(measure(case, 1_000, rounds, compared=0, stops=True))
        rows.append(measure(case, 10_000, rounds, compared=0, stops=True))
    show(rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of the process: {peak:.0f} MiB")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "rows": [
            asdict(row) | {"ratio": row.ratio, "ratio_whole": row.ratio_whole} for row in rows
        ],
        "peak_memory_mib": round(peak),
        "samples": len(case.y),
        "torch_threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("numpy", "torch")},
    }
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
