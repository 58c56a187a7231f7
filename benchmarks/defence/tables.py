"""The page's tables, each as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from . import summary
from .markdown import MISSING, number, passed, percent, points, rounded, table, with_deviation
from .rows import Row
from .stored import Stored
from .summary import (
    FLAIN,
    FORMER,
    MOST,
    SAMPLES,
    Runs,
    Test,
    attacked,
    benign,
    drop,
    field,
    is_aware,
    mean,
    plain,
    where,
    worst,
)

Measure = Callable[[Runs], str]


def is_clean(found: Runs) -> str:
    """How many are clean."""
    return passed(summary.share(summary.is_clean, found))


# --- The first table ---------------------------------------------------------------------


def first(stored: Stored) -> str:
    """Groups of rows against flain and the former default, by number of samples."""
    columns = [(defence, samples) for defence in (FLAIN, FORMER) for samples in SAMPLES]
    names = {FLAIN: "flain", FORMER: "up to 0.1"}
    heads = ["", *(f"{names[defence]}, {samples}" for defence, samples in columns)]
    rows = []
    for label, test, measure in _lines():
        values = [measure(plain(stored, defence, samples, test)) for defence, samples in columns]
        if any(values):
            rows.append([label, *values])
    return table(heads, rows)


def _lines() -> Iterator[tuple[str, Test, Measure]]:
    ordinary = [
        ("clean", is_clean),
        ("mean drop of ACC, points", lambda found: points(mean(drop, found))),
        ("worst drop of ACC, points", lambda found: points(worst(drop, found))),
        ("mean ASR after, %", lambda found: percent(mean(field("asr"), found))),
    ]
    for name, test in summary.DATA.items():
        for measure, of in ordinary:
            yield f"{name}, attacked: {measure}", attacked(test), of
        if name == "MNIST":
            for measure, of in (ordinary[0], ordinary[3]):
                yield f"{name}, attackers who know flain: {measure}", is_aware, of
        for measure, of in ordinary[1:3]:
            yield f"{name}, no attacker: {measure}", benign(test), of


# --- Targets -------------------------------------------------------------------------------

_TARGET_HEADS = [
    *("data", "target", "models", "mean ASR before, %", "mean ASR after, %", "clean"),
    "mean drop of ACC, points",
]


def targets(stored: Stored) -> str:
    """A line for every class that attackers want, those that know flain among them."""
    rows = []
    for name, test in summary.DATA.items():
        attacked = [row for row in stored.profile.rows.values() if row.mcr > 0 and test(row)]
        for target in sorted({_target(row) for row in attacked}):
            wanted = {row.name for row in attacked if _target(row) == target}
            found = _with_most(stored, _is_among(wanted))
            if not found.wanted:
                continue
            rates = [percent(mean(field(which), found)) for which in ("asr_before", "asr")]
            values = [*rates, is_clean(found), points(mean(drop, found))]
            rows.append([name, target, str(len(found.outcomes)), *values])
    return table(_TARGET_HEADS, rows)


def _target(row: Row) -> str:
    return "the next" if len(row.targets) > 1 else str(row.target)


def _is_among(names: Collection[str]) -> Test:
    return lambda row: row.name in names


# --- Each attack ---------------------------------------------------------------------------

_ATTACK_HEADS = [
    *("row", "seeds", "ACC before, %", "ACC after, %", "ASR before, %", "ASR after, %", "RA, %"),
    *("DER", "newly wrong, %", "CPU seconds", "neurons flipped"),
]


def attacks(stored: Stored) -> str:
    """A line for every group of rows that differ in nothing but their seeds."""
    rows = []
    for name in groups(stored):
        found = of_flain(stored, name)
        seeds = str(len(found.outcomes))
        if found.missing:
            seeds += f" of {found.wanted}"
        if found.untaken:
            seeds += f"; {found.untaken} did not take"
        rows.append([name, seeds, *_rates(found)])
    return table(_ATTACK_HEADS, rows)


def of_flain(stored: Stored, name: str) -> Runs:
    """Flain's results on a group of rows, with the most samples up to 800."""
    return _with_most(stored, lambda row: summary.group(row) == name)


def _with_most(stored: Stored, test: Test) -> Runs:
    return plain(stored, FLAIN, _most(stored, test), test)


def _rates(found: Runs) -> Iterator[str]:
    for name in ("acc_before", "acc", "asr_before", "asr", "ra"):
        yield with_deviation(mean(field(name), found))
    yield with_deviation(mean(field("der"), found), 1, 3)
    yield with_deviation(mean(summary.newly_wrong, found), 100, 2)
    yield with_deviation(mean(field("cpu_seconds"), found), 1, 2)
    yield with_deviation(mean(summary.flipped, found), 1, 0)


def groups(stored: Stored) -> list[str]:
    """The names of rows without their seeds, in the order of the matrix."""
    return list(dict.fromkeys(summary.group(row) for row in stored.profile.rows.values()))


def _most(stored: Stored, test: Test) -> int:
    """The most samples, up to 800, that flain is planned with on rows; digits have fewer."""
    cells = [
        cell.samples
        for cell in stored.profile.cells
        if cell.defence == FLAIN and cell.samples <= MOST and test(stored.profile.rows[cell.row])
    ]
    return max(cells, default=MOST)


def untaken(stored: Stored) -> str:
    """Rows whose attack did not take, with the ASR that they had."""
    rows = [
        [row.name, rounded(stored.trained[row.name]["asr"], 100, 1)]
        for row in stored.profile.rows.values()
        if summary.did_not_take(stored, row)
    ]
    return table(["row", "ASR before any defence, %"], rows) if rows else "None so far."


# --- Rivals --------------------------------------------------------------------------------

_RIVAL_HEADS = [
    *("defence", "rows", "refused", "mean DER", "mean drop of ACC, points"),
    *("worst drop, points", "mean ASR after, %", "CPU seconds"),
]


def rivals(stored: Stored, test: Test) -> str:
    """Every defence on the attacked rows that all of them have run on, or refused."""
    wanted = _rivalled(stored, test)
    rows = []
    for name, found in rivals_runs(stored, test).items():
        whole = plain(stored, name, MOST, wanted)
        planned = whole.wanted + len(whole.refused)
        count = str(len(found.outcomes))
        if len(found.outcomes) + len(found.refused) < planned:
            count += f" ({planned} planned)"
        rows.append([name, count, str(len(found.refused)), *_rival(found)])
    return table(_RIVAL_HEADS, rows)


def foremost(stored: Stored, test: Test) -> str:
    """A sentence on who has the greatest mean DER in that table, and where flain stands."""
    of_each = {
        name: figure.value
        for name, found in rivals_runs(stored, test).items()
        if (figure := mean(field("der"), found)).value is not None
    }
    if not of_each:
        return "No model has the results of all of them yet."
    ranked = sorted(of_each, key=lambda name: -of_each[name])
    first, *others = (f"{name} ({of_each[name]:.3f})" for name in ranked)
    said = f"The greatest mean DER is that of {first}"
    if ranked[0] == FLAIN:
        return f"{said}; next comes {others[0]}." if others else f"{said}."
    if FLAIN not in of_each:
        return f"{said}; flain has no result there."
    return f"{said}; flain is in place {ranked.index(FLAIN) + 1} of {len(ranked)}."


def rivals_runs(stored: Stored, test: Test) -> dict[str, Runs]:
    """By defence, its results on the attacked rows on which no planned defence is missing."""
    wanted = _rivalled(stored, test)
    keep = where(wanted, samples=MOST, kind="clean", draw=0)
    shared = summary.common(stored, keep)
    return {
        name: plain(stored, name, MOST, lambda row: wanted(row) and row.name in shared)
        for name in defences(stored, keep)
    }


def _rivalled(stored: Stored, test: Test) -> Test:
    names = compared(stored)
    return attacked(lambda row: test(row) and row.name in names)


def _rival(found: Runs) -> list[str]:
    if not found.outcomes:
        return [MISSING] * 5
    return [
        number(mean(field("der"), found), 3),
        points(mean(drop, found)),
        points(worst(drop, found)),
        percent(mean(field("asr"), found)),
        number(mean(field("cpu_seconds"), found), 1),
    ]


def compared(stored: Stored) -> set[str]:
    """Rows on which every rival is planned."""
    planned: dict[str, set[str]] = {}
    for cell in stored.profile.cells:
        if cell.defence not in {FLAIN, FORMER, "none"} and cell.kind == "clean":
            planned.setdefault(cell.row, set()).add(cell.defence)
    every = set[str]().union(*planned.values())
    return {row for row, rivals in planned.items() if rivals == every}


def defences(stored: Stored, keep: summary.Keep) -> list[str]:
    """The defences of the planned cells that ``keep`` lets by, in the order of the matrix."""
    planned = (
        cell.defence for cell in stored.profile.cells if keep(stored.profile.rows[cell.row], cell)
    )
    return list(dict.fromkeys(planned))


def refusals(stored: Stored) -> str:
    """Which defences refused how many models, and why."""
    reasons = Counter(
        (outcome.cell.defence, outcome.refused)
        for outcome in stored.outcomes.values()
        if outcome.refused is not None
    )
    rows = [[name, str(count), str(why)] for (name, why), count in sorted(reasons.items())]
    return table(["defence", "models refused", "reason"], rows) if rows else "None so far."


# --- Robust strategies -------------------------------------------------------------------------


def strategies(stored: Stored) -> str:
    """Robust aggregation alone and followed by flain; whether the attack took is part of it."""
    heads = [
        *("strategy", "trigger", "seeds", "ACC, %", "and flain", "ASR, %", "and flain"),
        "newly wrong with flain, %",
    ]
    rows = []
    for strategy, trigger in pairs(stored):
        found = followed(stored, strategy, trigger)
        seeds = str(len(found.outcomes)) + (f" of {found.wanted}" if found.missing else "")
        names = ("acc_before", "acc", "asr_before", "asr")
        rates = [with_deviation(mean(field(name), found)) for name in names]
        wrong = with_deviation(mean(summary.newly_wrong, found), 100, 2)
        rows.append([strategy, trigger, seeds, *rates, wrong])
    return table(heads, rows)


def pairs(stored: Stored) -> list[tuple[str, str]]:
    """Strategies with triggers, FedAvg among them where robust ones are planned."""
    alike = _like_robust(stored)
    rows = [row for row in stored.profile.rows.values() if alike(row)]
    return sorted(
        dict.fromkeys((row.strategy, row.trigger) for row in rows),
        key=lambda pair: pair[0] != "fedavg",
    )


def followed(stored: Stored, strategy: str, trigger: str) -> Runs:
    """Flain after a strategy, also where the strategy kept the attack from taking."""
    alike = _like_robust(stored)

    def test(row: Row) -> bool:
        return alike(row) and (row.strategy, row.trigger) == (strategy, trigger)

    keep = where(test, defence=FLAIN, samples=MOST, kind="clean", draw=0)
    return summary.runs(stored, keep, untaken_too=True)


def _like_robust(stored: Stored) -> Test:
    """Rows that differ from a robust one in nothing but the strategy and the seed."""

    def rest(row: Row) -> Row:
        return replace(row, name="", strategy="", seed=0)

    robust = [row for row in stored.profile.rows.values() if not summary.is_averaged(row)]
    likes = {rest(row) for row in robust}
    return lambda row: rest(row) in likes
