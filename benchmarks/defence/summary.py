"""From results to numbers: which results count, and what they come to.

Shares lie in [0, 1], and so do drops of ACC.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .rows import Cell, Row
from .stored import Outcome, Stored

# An attack took if it reaches this ASR before any defence.
TOOK = 0.8
# A model is clean if no more of its ASR is left and no more of its ACC is lost.
CLEAN_ASR, CLEAN_DROP = 0.02, 0.005
FLAIN, FORMER = "flain", "flain-published-default"
SAMPLES = (800, 300, 100)
MOST = max(SAMPLES)
AWARE = frozenset({"project", "freeze", "couple"})
# How many; no result says so.
TEST_IMAGES = {"mnist": 10_000, "cifar": 5_000, "digits": 397}

Test = Callable[[Row], bool]
Keep = Callable[[Row, Cell], bool]
Of = Callable[[Outcome], float]


# --- Which results count -------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Runs:
    """Results that belong together.

    Attributes:
        outcomes: Those that are there.
        refused: Those whose defence refused the model.
        missing: How many are planned and not there.
        untaken: How many are left out, as their attack did not take.
    """

    outcomes: Sequence[Outcome]
    refused: Sequence[Outcome]
    missing: int
    untaken: int

    @property
    def wanted(self) -> int:
        """How many there are when none is missing."""
        return len(self.outcomes) + self.missing


def runs(stored: Stored, keep: Keep, *, untaken_too: bool = False) -> Runs:
    """The results of the planned cells that ``keep`` lets by.

    Attacks that did not take are left out unless ``untaken_too``.
    """
    outcomes, refused, missing, untaken = [], [], 0, 0
    for cell in stored.profile.cells:
        row = stored.profile.rows[cell.row]
        if not keep(row, cell):
            continue
        outcome = stored.outcomes.get(cell.name)
        if did_not_take(stored, row) and not untaken_too:
            untaken += 1
        elif outcome is None:
            missing += 1
        elif outcome.refused is not None:
            refused.append(outcome)
        else:
            outcomes.append(outcome)
    return Runs(outcomes, refused, missing, untaken)


def where(test: Test, **wanted: object) -> Keep:
    """Cells with these values, on rows that pass the test."""
    return lambda row, cell: (
        all(getattr(cell, name) == value for name, value in wanted.items()) and test(row)
    )


def plain(stored: Stored, defence: str, samples: int, test: Test) -> Runs:
    """A defence's results with the first draw of so many clean samples."""
    wanted = {"defence": defence, "samples": samples, "kind": "clean", "draw": 0}
    return runs(stored, where(test, **wanted))


def did_not_take(stored: Stored, row: Row) -> bool:
    """Whether the row is trained and attacked, and the attack did not take."""
    return row.mcr > 0 and row.name in stored.trained and stored.trained[row.name]["asr"] < TOOK


def benign(test: Test) -> Test:
    """Rows that pass the test and have no attacker."""
    return lambda row: test(row) and row.mcr == 0


def attacked(test: Test) -> Test:
    """Rows that pass the test, averaged by FedAvg, with attackers who do not know flain."""
    return lambda row: test(row) and row.mcr > 0 and not is_aware(row) and is_averaged(row)


def is_aware(row: Row) -> bool:
    """Whether the attackers know flain."""
    return row.mcr > 0 and row.technique in AWARE


def is_mnist(row: Row) -> bool:
    """Whether the network is the published MNIST one."""
    return row.network == "mnist"


def is_averaged(row: Row) -> bool:
    """Whether the server takes the mean of all updates."""
    return row.strategy == "fedavg"


# What a reader would tell apart, by its test.
DATA: dict[str, Test] = {
    "MNIST": is_mnist,
    "CIFAR-10": lambda row: row.network in ("cifar", "published"),
    "CIFAR-10 with batch norm": lambda row: row.network == "resnet",
    "MNIST with a dense network": lambda row: row.network == "dense",
    "MNIST with a vision transformer": lambda row: row.network == "vit",
    "digits": lambda row: row.network == "digits",
}


def group(row: Row) -> str:
    """The name of a row without its seed."""
    return row.name.removesuffix(f"-s{row.seed}")


def common(stored: Stored, keep: Keep) -> set[str]:
    """The rows on which no planned defence is missing."""
    cells = [cell for cell in stored.profile.cells if keep(stored.profile.rows[cell.row], cell)]
    missing = {cell.row for cell in cells if cell.name not in stored.outcomes}
    return {cell.row for cell in cells} - missing


# --- One result ------------------------------------------------------------------------


def drop(outcome: Outcome) -> float:
    """ACC before minus ACC after; negative where it rose."""
    return round(float(outcome.content["acc_before"] - outcome.content["acc"]), 9)


def newly_wrong(outcome: Outcome) -> float:
    """The share of test images that are newly wrong."""
    return float(outcome.content["newly_wrong"]) / TEST_IMAGES[outcome.row.data]


def flipped(outcome: Outcome) -> float:
    """How many input neurons flain flipped, in all layers."""
    return float(sum(outcome.content["info"]["flipped"].values()))


def field(name: str) -> Of:
    """What the result holds under that name."""
    return lambda outcome: float(outcome.content[name])


def is_clean(outcome: Outcome) -> bool:
    """Whether the backdoor is gone at hardly any cost."""
    return bool(outcome.content["asr"] <= CLEAN_ASR and drop(outcome) <= CLEAN_DROP)


# --- Many results ------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A number over several results.

    Attributes:
        value: The number; None where there is no result.
        count: How many results it is of.
        wanted: How many it should be of.
        deviation: The standard deviation of a sample, None of fewer than two.
    """

    value: float | None
    count: int
    wanted: int
    deviation: float | None = None


def mean(of: Of, found: Runs) -> Figure:
    """The mean over the results, with its deviation."""
    values = [of(outcome) for outcome in found.outcomes]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    value = statistics.fmean(values) if values else None
    return Figure(value, len(values), found.wanted, deviation)


def worst(of: Of, found: Runs) -> Figure:
    """The largest."""
    values = [of(outcome) for outcome in found.outcomes]
    return Figure(max(values, default=None), len(values), found.wanted)


def share(test: Callable[[Outcome], bool], found: Runs) -> Figure:
    """The share of the results that pass."""
    return mean(lambda outcome: float(test(outcome)), found)


def between_draws(of: Of, found: Runs) -> Figure:
    """The deviation between the draws of one model's samples, as a mean over models."""
    models: dict[str, list[float]] = {}
    for outcome in found.outcomes:
        models.setdefault(outcome.row.name, []).append(of(outcome))
    deviations = [statistics.stdev(values) for values in models.values() if len(values) > 1]
    value = statistics.fmean(deviations) if deviations else None
    return Figure(value, len(found.outcomes), found.wanted)


# --- Promises ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Promises:
    """What promises came to.

    Attributes:
        promised: Runs with a promise.
        without: Runs without one.
        unreadable: Runs of a version that kept promises as sentences.
        loss: Mean promised share of newly wrong samples; None without promises.
        wrong: Mean share of test images that are newly wrong in the runs with a promise.
        broken: Promises whose share of test images is greater than promised.
    """

    promised: int
    without: int
    unreadable: int
    loss: float | None
    wrong: float | None
    broken: int


def promises(outcomes: Iterable[Outcome]) -> Promises:
    """Holds each promise against the test images."""
    given: list[tuple[float, float]] = []
    without, unreadable = 0, 0
    for outcome in outcomes:
        promise: Any = outcome.content["info"].get("promise")
        if isinstance(promise, str):
            unreadable += 1
        elif promise is None or promise["loss"] >= 1:  # A loss of 1 promises nothing.
            without += 1
        else:
            given.append((float(promise["loss"]), newly_wrong(outcome)))
    return Promises(
        promised=len(given),
        without=without,
        unreadable=unreadable,
        loss=statistics.fmean(loss for loss, _ in given) if given else None,
        wrong=statistics.fmean(wrong for _, wrong in given) if given else None,
        broken=sum(wrong > loss for loss, wrong in given),
    )
