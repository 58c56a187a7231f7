"""Tables on auxiliary samples: how many, which ones, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import summary
from .markdown import percent, points, table
from .stored import Stored
from .summary import FLAIN, MOST, SAMPLES, Runs, Test, drop, field, mean, plain, where, worst

SHIFTED = ("brighter", "noisy", "inverted", "poisoned")
asr = field("asr")


def sizes(stored: Stored) -> str:
    """From 10 to 2,000 samples, on rows where all sizes are planned."""
    heads = [
        *("data", "samples", "no attacker: mean drop of ACC, points", "worst", "attacked: mean"),
        *("worst", "mean ASR after, %"),
    ]
    rows = []
    for name, test in summary.DATA.items():
        for samples in every_size(stored):
            clean = plain(stored, FLAIN, samples, of_all_sizes(stored, summary.benign(test)))
            bad = plain(stored, FLAIN, samples, of_all_sizes(stored, summary.attacked(test)))
            if clean.wanted or bad.wanted:
                values = [figure(found) for found in (clean, bad) for figure in _mean_and_worst]
                rows.append([name, f"{samples:,}", *values, percent(mean(asr, bad))])
    return table(heads, rows)


_mean_and_worst: Sequence[Callable[[Runs], str]] = (
    lambda found: points(mean(drop, found)),
    lambda found: points(worst(drop, found)),
)


def every_size(stored: Stored) -> list[int]:
    """The numbers of samples that flain is planned with, digits aside."""
    cells = stored.profile.cells
    return sorted(
        {
            cell.samples
            for cell in cells
            if cell.defence == FLAIN and stored.profile.rows[cell.row].data != "digits"
        }
    )


def of_all_sizes(stored: Stored, test: Test) -> Test:
    """Rows that pass the test and on which flain is planned with every number of samples."""
    wanted = set(every_size(stored))
    planned: dict[str, set[int]] = {}
    for cell in stored.profile.cells:
        if cell.defence == FLAIN and cell.kind == "clean" and cell.draw == 0:
            planned.setdefault(cell.row, set()).add(cell.samples)
    return lambda row: test(row) and planned.get(row.name, set()) >= wanted


def shifted(stored: Stored) -> str:
    """Samples that are not drawn like the clients', or are poisoned, against clean ones."""
    heads = [
        *("samples", "defence", "no attacker: mean drop of ACC, points", "worst"),
        *("attacked: mean", "worst", "mean ASR after, %"),
    ]
    cells = [cell for cell in stored.profile.cells if cell.kind != "clean"]
    rows = []
    for kind in ("clean", *SHIFTED):
        for defence in dict.fromkeys(cell.defence for cell in cells):
            clean, bad = (
                of_kind(stored, kind, defence, attacked=attacked) for attacked in (False, True)
            )
            values = [figure(found) for found in (clean, bad) for figure in _mean_and_worst]
            rows.append([kind, defence, *values, percent(mean(asr, bad))])
    return table(heads, rows)


def of_kind(stored: Stored, kind: str, defence: str, *, attacked: bool) -> Runs:
    """A defence with samples of that kind, on rows where it is planned with shifted ones."""
    cells = stored.profile.cells
    names = {cell.row for cell in cells if cell.kind != "clean" and cell.defence == defence}
    wanted = {"kind": kind, "defence": defence, "samples": MOST, "draw": 0}
    keep = where(lambda row: row.name in names and (row.mcr > 0) == attacked, **wanted)
    return summary.runs(stored, keep)


def draws(stored: Stored) -> str:
    """Several draws of the same number of samples for the same models."""
    heads = [
        *("data", "samples", "results", "mean drop of ACC, points", "worst"),
        *("deviation between draws, points", "mean ASR after, %", "largest"),
    ]
    rows = []
    for name, test in summary.DATA.items():
        for samples in SAMPLES:
            found = _drawn(stored, samples, test)
            bad = _drawn(stored, samples, summary.attacked(test))
            if found.wanted:
                figures = [figure(found) for figure in _mean_and_worst]
                spread = points(summary.between_draws(drop, found))
                rates = [percent(mean(asr, bad)), percent(worst(asr, bad))]
                rows.append(
                    [name, str(samples), str(len(found.outcomes)), *figures, spread, *rates]
                )
    return table(heads, rows)


def _drawn(stored: Stored, samples: int, test: Test) -> Runs:
    names = {cell.row for cell in stored.profile.cells if cell.draw > 0}
    wanted = {"defence": FLAIN, "kind": "clean", "samples": samples}
    return summary.runs(stored, where(lambda row: row.name in names and test(row), **wanted))
