"""How much faster the search is than plain re-evaluation, and how far from the least it could cost.

    python benchmarks/search_speed.py

On the MNIST network (fc1: 3,136 input neurons) with 800 samples. Plain re-evaluation runs the whole
PyTorch network for every threshold, as the published code does; ours is `flain_core` with
`flain_torch`. They alternate in one process, on the same model and data, never stop early, and
have to give the same accuracy at every threshold and the same weights. Times are medians.

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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from federation import Network, Width
from plain import PlainResult, plain_reevaluation
from rich.console import Console
from rich.table import Table

import flain_core as flain
import flain_torch
from flain_core import Grid, Settings
from flain_core.auxiliary import Samples
from flain_core.evaluation import CutModel, Examination, Flipping, cut_in_pieces
from flain_core.schedule import Schedule
from flain_core.search import search
from flain_core.threads import one_blas_thread

SAMPLES = 800
LAYER = "fc1"
NEVER_STOP = 1.0
T = TypeVar("T")
console = Console()
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Case:
    """A network as training might have left it, the samples, and where the thresholds lie."""

    initial: Network
    final: Network
    x: torch.Tensor
    y: Any
    highest: float

    def grid(self, thresholds: int) -> Grid:
        """So many thresholds from 0 to just above the median activation."""
        return Grid(start=0.0, step=self.highest / (thresholds - 1), stop=self.highest)


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are medians over the rounds."""

    thresholds: int
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


def make_case(seed: int = 0) -> Case:
    """The wide MNIST network with an update of realistic size on images of random strokes."""
    torch.manual_seed(seed)
    initial = Network(Width.FULL).eval()
    final = Network(Width.FULL).eval()
    final.load_state_dict(initial.state_dict())
    with torch.no_grad():
        for parameter in final.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.5)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy((rng.random((SAMPLES, 1, 28, 28)) ** 4).astype(np.float32))
    with torch.no_grad():
        y = final(x).argmax(1).numpy()
    activation = flain_torch.open_network(final).cut(LAYER, x.numpy()).inputs.mean(0)
    return Case(initial, final, x, y, float(np.median(activation)))


def plain(case: Case, grid: Grid) -> PlainResult:
    """Every threshold a full run of the PyTorch network with the weight copied in."""
    layer = case.final.fc1
    final = layer.weight.detach().numpy().copy()
    inputs: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))

    def run(weight: Any) -> Any:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            return case.final(case.x).numpy()

    try:
        run(final)
        handle.remove()
        return plain_reevaluation(
            case.initial.fc1.weight.detach().numpy(),
            final,
            inputs[0].numpy().mean(axis=0, dtype=np.float64),
            run,
            case.y,
            thresholds=grid.thresholds(),
            tolerance=2.0,
        )
    finally:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(final))


def ours(case: Case, grid: Grid) -> flain.Purification:
    """The whole call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(
            case.final,
            initial=case.initial,
            data=(case.x, case.y),
            layers=LAYER,
            settings=Settings(thresholds=grid, tolerance=NEVER_STOP),
        )


@dataclass(frozen=True)
class Opened:
    """Both networks opened, so that only the search is timed."""

    final: flain.Network
    initial: Any
    examination: Examination

    def search(self, grid: Grid) -> Schedule:
        """One pass up to the layer, then every candidate."""
        settings = Settings(thresholds=grid, tolerance=NEVER_STOP)
        pieces, seen = cut_in_pieces(self.final, LAYER, self.examination)
        schedule = Schedule.of(seen.mean, grid)
        layer = self.final.layers()[LAYER]
        flipping = Flipping(self.final, layer, self.initial, settings.factor, schedule.order)
        candidates = CutModel(pieces, flipping, self.examination, window=2e-5)
        search(schedule, candidates, settings, candidates.advance(0).clean)
        return schedule

    def floor(self, schedule: Schedule) -> None:
        """One pass up to the layer, one product, one tail for each candidate."""
        x = self.examination.clean.x
        cut = self.final.cut(LAYER, x)
        flipped = schedule.order[: int(schedule.ends[-1])]
        output = cut.output - cut.linear(self.final.layers()[LAYER].weight, flipped)
        for _ in range(len(schedule)):
            cut.tail(output)


def seconds(call: Callable[[], T]) -> tuple[float, T]:
    """Wall time of a call, and what it returned."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def measure(case: Case, thresholds: int, rounds: int, compare: bool) -> Row:
    """Alternate the ways, assert that they agree, and take medians."""
    grid = case.grid(thresholds)
    opened = Opened(
        flain_torch.open_network(case.final),
        flain_torch.open_network(case.initial).layers()[LAYER].weight,
        Examination(Samples.of((case.x, case.y))),
    )
    times: dict[str, list[float]] = {"plain": [], "search": [], "purify": [], "floor": []}
    schedule = Schedule.of(np.zeros(1))
    for _ in range(rounds):
        with one_blas_thread():
            took, schedule = seconds(lambda: opened.search(grid))
            times["search"].append(took)
            times["floor"].append(seconds(lambda: opened.floor(schedule))[0])  # noqa: B023
        took, result = seconds(lambda: ours(case, grid))
        times["purify"].append(took)
        if compare:
            took, expected = seconds(lambda: plain(case, grid))
            times["plain"].append(took)
            assert_same(result, expected, grid)
    middle = {name: statistics.median(all_) for name, all_ in times.items() if all_}
    return Row(
        thresholds,
        len(schedule),
        middle.get("plain"),
        middle["search"],
        middle["purify"],
        middle["floor"],
    )


def assert_same(result: flain.Purification, expected: PlainResult, grid: Grid) -> None:
    """The same accuracy at every threshold, the same neurons, the same weights."""
    layer = result.layers[0]
    accuracy = dict(zip(grid.thresholds().tolist(), expected.accuracies, strict=True))
    for step in layer.steps:
        if step.clean != accuracy[step.threshold]:
            raise AssertionError(f"{step} differs from {accuracy[step.threshold]}")
    np.testing.assert_array_equal(layer.flipped, expected.flipped)
    weight = result.model.fc1.weight.detach().numpy()
    np.testing.assert_allclose(weight, expected.weight, rtol=1e-6, atol=1e-7)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Alternations.")] = 3,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "benchmarks/results/search_speed.json"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="30 and 150 thresholds only.")] = False,
) -> None:
    """Measure, print, write."""
    case = make_case()
    measure(case, 10, 1, compare=True)
    plan = [(30, True), (150, True)] if quick else [(30, True), (150, True), (1_000, True)]
    rows = [measure(case, count, rounds, compare) for count, compare in plan]
    if not quick:
        rows.append(measure(case, 10_000, rounds, compare=False))
    table = Table("thresholds", "candidates", "plain s", "search s", "ratio", "purify s", "ratio",
                  "floor s", "search / floor")  # fmt: skip
    for row in rows:
        table.add_row(
            f"{row.thresholds:,}",
            f"{row.candidates:,}",
            "–" if row.plain_seconds is None else f"{row.plain_seconds:.2f}",
            f"{row.search_seconds:.3f}",
            "–" if row.ratio is None else f"{row.ratio:.0f}",
            f"{row.purify_seconds:.3f}",
            "–" if row.ratio_whole is None else f"{row.ratio_whole:.0f}",
            f"{row.floor_seconds:.3f}",
            f"{row.search_seconds / row.floor_seconds:.2f}",
        )
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of the process {peak:.0f} MiB")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "rows": [
            asdict(row) | {"ratio": row.ratio, "ratio_whole": row.ratio_whole} for row in rows
        ],
        "peak_memory_mib": round(peak),
        "rounds": rounds,
        "samples": SAMPLES,
        "torch_threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("numpy", "torch")},
    }
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
