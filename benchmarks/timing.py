"""Times plain re-evaluation, the search, the whole call and the floor in turn, on one contender."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from contenders import Array, Contender
from plain import PlainResult, plain_reevaluation
from rich.console import Console
from rich.table import Table

import flain_core as flain
from flain_core import Grid, Settings
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.opening import registry
from flain_core.schedule import Schedule
from flain_core.search import search
from flain_core.threads import one_blas_thread, one_thread_for

__all__ = ["Growth", "Row", "growth", "measure", "show", "show_growth"]

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are medians over the rounds.

    Attributes:
        plain_seconds: Plain re-evaluation, all samples in a single pass.
        plain_in_batches_seconds: The same in batches of 256, the size that the search uses.
    """

    name: str
    thresholds: int
    stops: bool
    candidates: int
    plain_seconds: float | None
    plain_in_batches_seconds: float | None
    search_seconds: float
    purify_seconds: float
    floor_seconds: float

    def ratios(self) -> dict[str, float]:
        """Plain re-evaluation, both ways, over the search and over the whole call."""
        plain = {"plain": self.plain_seconds, "plain_in_batches": self.plain_in_batches_seconds}
        ours = {"search": self.search_seconds, "purify": self.purify_seconds}
        return {
            f"{slow}_over_{fast}": seconds / ours[fast]
            for slow, seconds in plain.items()
            for fast in ours
            if seconds is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """The row as a dict for JSON, with the ratios."""
        return asdict(self) | self.ratios()


def measure(
    name: str,
    contender: Contender,
    thresholds: int,
    rounds: int,
    *,
    compared: int,
    stops: bool = False,
) -> Row:
    """Alternate the ways, assert that they agree, and take medians.

    Args:
        name: The name of the row.
        contender: The network to search.
        thresholds: The number of thresholds in the grid.
        rounds: How often the search, the floor and the whole call are timed.
        compared: In how many of the rounds plain re-evaluation runs as well.
        stops: Whether the default tolerance ends the search, or nothing does.
    """
    grid = contender.grid(thresholds)
    settings = _settings(grid, stops=stops)
    samples = LocalSamples.of((contender.x, contender.y))
    times: dict[str, list[float]] = {}
    tried = 0
    for number in range(rounds):
        with one_blas_thread():
            _timed(times, "search", partial(_searched, contender, samples, settings))
            schedule, tried = _searched(contender, samples, settings)
            _timed(times, "floor", partial(_floor, contender, samples, schedule, tried))
        result = _timed(times, "purify", partial(_purified, contender, settings))
        if number < compared:
            for way, run in (("plain", contender.at_once), ("batches", contender.in_batches)):
                expected = _timed(times, way, partial(_plain, contender, grid, run))
                assert_same(result, expected, grid, contender.layer)
    middle = {way: statistics.median(taken) for way, taken in times.items()}
    return Row(
        name=name,
        thresholds=thresholds,
        stops=stops,
        candidates=tried,
        plain_seconds=middle.get("plain"),
        plain_in_batches_seconds=middle.get("batches"),
        search_seconds=middle["search"],
        purify_seconds=middle["purify"],
        floor_seconds=middle["floor"],
    )


@dataclass(frozen=True)
class Growth:
    """What a finer grid costs; seconds are medians over the rounds.

    Attributes:
        stops: Whether the default tolerance ends the searches, or nothing does.
        thresholds: The number of thresholds in the coarse and in the fine grid.
        candidates: The number of candidates tried with each grid.
        search_seconds: One pass up to the layer, and every candidate.
        purify_seconds: The whole call.
    """

    stops: bool
    thresholds: tuple[int, int]
    candidates: tuple[int, int]
    search_seconds: tuple[float, float]
    purify_seconds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """The figures as a dict for JSON, with the ratios of fine over coarse."""
        ratios = {
            f"{way}_ratio": fine / coarse
            for way, (coarse, fine) in (
                ("search", self.search_seconds),
                ("purify", self.purify_seconds),
            )
        }
        return asdict(self) | ratios


def growth(
    contender: Contender, thresholds: tuple[int, int], rounds: int, *, stops: bool
) -> Growth:
    """Alternate a coarse and a fine grid, and take medians."""
    samples = LocalSamples.of((contender.x, contender.y))
    times: dict[str, list[float]] = {}
    tried = {}
    for _ in range(rounds):
        for number in thresholds:
            settings = _settings(contender.grid(number), stops=stops)
            with one_blas_thread():
                search = partial(_searched, contender, samples, settings)
                _, tried[number] = _timed(times, f"search {number}", search)
            _timed(times, f"purify {number}", partial(_purified, contender, settings))
    coarse, fine = thresholds
    middle = {way: statistics.median(taken) for way, taken in times.items()}
    return Growth(
        stops=stops,
        thresholds=thresholds,
        candidates=(tried[coarse], tried[fine]),
        search_seconds=(middle[f"search {coarse}"], middle[f"search {fine}"]),
        purify_seconds=(middle[f"purify {coarse}"], middle[f"purify {fine}"]),
    )


def assert_same(result: flain.Purification, expected: PlainResult, grid: Grid, layer: str) -> None:
    """Assert the same accuracy at every threshold, the same neurons and the same weights.

    The accuracy may differ by the rounding that the search itself reports.
    """
    outcome = result.layers[0]
    accuracy = dict(zip(grid.thresholds().tolist(), expected.accuracies, strict=True))
    for step in outcome.steps:
        if abs(step.clean - accuracy[step.threshold]) > step.rounding + 1e-12:
            raise AssertionError(f"{step} differs from {accuracy[step.threshold]}")
    np.testing.assert_array_equal(outcome.flipped, expected.flipped)
    weight = registry.open_network(result.model).layers()[layer].weight
    np.testing.assert_allclose(weight, expected.weight, rtol=1e-6, atol=1e-7)


def show(rows: list[Row], console: Console) -> None:
    """Print the table."""
    table = Table(
        *("", "thresholds", "stops", "candidates", "plain s", "in batches s", "search s"),
        *("plain / search", "in batches / search", "purify s", "plain / purify", "search / floor"),
    )
    for row in rows:
        ratios = row.ratios()
        table.add_row(
            row.name,
            f"{row.thresholds:,}",
            "at the tolerance" if row.stops else "never",
            f"{row.candidates:,}",
            _number(row.plain_seconds, 1),
            _number(row.plain_in_batches_seconds, 1),
            _number(row.search_seconds, 3),
            _number(ratios.get("plain_over_search")),
            _number(ratios.get("plain_in_batches_over_search")),
            _number(row.purify_seconds, 3),
            _number(ratios.get("plain_over_purify")),
            _number(row.search_seconds / row.floor_seconds, 2),
        )
    console.print(table)


def show_growth(growths: list[Growth], console: Console) -> None:
    """Print the table."""
    table = Table("thresholds", "stops", "candidates", "search s", "ratio", "purify s", "ratio")
    for each in growths:
        ratios = each.to_dict()
        table.add_row(
            " → ".join(f"{number:,}" for number in each.thresholds),
            "at the tolerance" if each.stops else "never",
            " → ".join(f"{number:,}" for number in each.candidates),
            " → ".join(f"{seconds:.3f}" for seconds in each.search_seconds),
            f"{ratios['search_ratio']:.2f}",
            " → ".join(f"{seconds:.3f}" for seconds in each.purify_seconds),
            f"{ratios['purify_ratio']:.2f}",
        )
    console.print(table)


def _settings(grid: Grid, *, stops: bool) -> Settings:
    """Settings of a search as the plain one goes: whole neurons, by the accuracy."""
    tolerance = None if stops else 1.0
    return Settings(measure="score", flip="neurons", thresholds=grid, tolerance=tolerance)


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _timed(times: dict[str, list[float]], way: str, call: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = call()
    times.setdefault(way, []).append(time.perf_counter() - started)
    return result


def _plain(contender: Contender, grid: Grid, run: Callable[[Array], Array]) -> PlainResult:
    """Run the framework's own network in full for every threshold."""
    initial, final = contender.weights
    return plain_reevaluation(
        initial,
        final,
        contender.activation,
        run,
        contender.y,
        thresholds=grid.thresholds(),
        tolerance=2.0,
    )


def _purified(contender: Contender, settings: Settings) -> flain.Purification:
    """Run the whole call of ``purify``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(
            contender.final,
            initial=contender.initial,
            data=(contender.x, contender.y),
            layers=contender.layer,
            settings=settings,
        )


def _searched(
    contender: Contender, samples: LocalSamples, settings: Settings
) -> tuple[Schedule, int]:
    """Run one pass up to the layer, then the candidates; return how many of them were tried."""
    network, name = contender.opened, contender.layer
    scorer = LocalScorer(samples)
    statistics, _ = scorer.study(network, name)
    schedule = Schedule.of(statistics.mean, settings.thresholds)
    layer, initial = network.layers()[name], contender.weights[0]
    flipping = FlippingOrder(network, layer, initial, settings.factor_of("neurons"), schedule.order)
    with scorer.candidates(flipping, window=2e-5) as candidates:
        found = search(schedule, candidates, settings, candidates.advance([0])[0])
    return schedule, len(found.steps)


def _floor(contender: Contender, samples: LocalSamples, schedule: Schedule, tried: int) -> None:
    """Run one pass up to the layer, one product, and one tail for each candidate tried."""
    network, name = contender.opened, contender.layer
    flipped = schedule.order[: int(schedule.n_flipped[tried - 1])]
    weight = network.layers()[name].weight
    cuts = [network.cut(name, batch.x) for batch in samples.clean.batches()]
    outputs = [cut.output - cut.linear(weight, flipped) for cut in cuts]
    with one_thread_for(max(output.nbytes for output in outputs)):
        for _ in range(tried):
            for cut, output in zip(cuts, outputs, strict=True):
                cut.tail(output)
