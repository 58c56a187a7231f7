"""Tables on single runs: what flain says, what comes back, and where results come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import get_args

from flain_core.outcome.verdict import Verdict

from . import summary
from .markdown import MISSING, rounded, table
from .stored import Content, Outcome, Stored
from .summary import FLAIN, field

asr = field("asr")
_CLASS_SHARES = (0, 0.1, 0.22, 0.35, 0.5)

# --- What flain says ---------------------------------------------------------------


def promises(stored: Stored) -> str:
    """Promises held against test images, by number of samples."""
    heads = [
        *("samples", "runs", "with a promise", "mean promised loss, %", "mean newly wrong, %"),
        "broken",
    ]
    sizes = sorted({cell.samples for cell in stored.profile.cells if cell.defence == FLAIN})
    rows = [
        [f"{samples:,}, clean", *_promised(_of_flain(stored, samples, clean=True))]
        for samples in sizes
    ]
    rows.append(["shifted or poisoned", *_promised(_of_flain(stored, None, clean=False))])
    return table(heads, rows)


def _promised(outcomes: Sequence[Outcome]) -> list[str]:
    found = summary.promises(outcomes)
    runs = str(len(outcomes))
    if found.unreadable:
        runs += f" ({found.unreadable} of a version that kept no number)"
    if found.loss is None or found.wrong is None:
        return [runs, str(found.promised), MISSING, MISSING, MISSING]
    rates = [rounded(found.loss, 100, 2), rounded(found.wrong, 100, 2)]
    return [runs, str(found.promised), *rates, f"{found.broken} of {found.promised}"]


def promises_of(stored: Stored, samples: int) -> summary.Promises:
    """What flain's promises with so many clean samples came to."""
    return summary.promises(_of_flain(stored, samples, clean=True))


def _of_flain(stored: Stored, samples: int | None, *, clean: bool) -> list[Outcome]:
    found = summary.runs(
        stored,
        lambda row, cell: (
            cell.defence == FLAIN
            and (samples is None or cell.samples == samples)
            and (cell.kind == "clean") == clean
        ),
        untaken_too=True,
    )
    return list(found.outcomes)


def verdicts(stored: Stored) -> str:
    """What flain says it did, against what was left of the backdoor."""
    heads = [
        *("verdict", "attacked", "ASR at most 2 %", "2 to 20 %", "over 20 %"),
        *("mean ASR after, %", "no attacker"),
    ]
    found = summary.runs(stored, lambda row, cell: cell.defence == FLAIN and cell.kind == "clean")
    rows = []
    for verdict in get_args(Verdict):
        said = [each for each in found.outcomes if each.content["info"]["verdict"] == verdict]
        rates = [asr(outcome) for outcome in said if outcome.row.mcr > 0]
        low = sum(rate <= summary.CLEAN_ASR for rate in rates)
        high = sum(rate > 0.2 for rate in rates)
        counts = [len(rates), low, len(rates) - low - high, high]
        rows.append([verdict, *map(str, counts), _mean(rates), str(len(said) - len(rates))])
    return table(heads, rows)


def class_shares(stored: Stored) -> str:
    """What flain flipped of what the update says for a class, against what was left."""
    whose = ("results", "ASR at most 2 %", "mean ASR after, %")
    heads = [
        "share flipped for a class, %",
        *(f"attacker's class: {head}" for head in whose),
        *(f"another class: {head}" for head in whose),
        "no attacker",
    ]
    found = summary.runs(stored, lambda row, cell: cell.defence == FLAIN and cell.kind == "clean")
    rows = []
    for least, limit in pairwise((*_CLASS_SHARES, inf)):
        told = [
            (outcome, of_class["class"])
            for outcome in found.outcomes
            if (of_class := outcome.content["info"].get("class_share"))
            and least <= of_class["share"] < limit
        ]
        attacked = [each for each in told if each[0].row.mcr > 0]
        cells = []
        for is_attackers in (True, False):
            rates = [asr(of) for of, one in attacked if (one in of.row.targets) == is_attackers]
            low = sum(rate <= summary.CLEAN_ASR for rate in rates)
            cells += [str(len(rates)), str(low), _mean(rates)]
        band = (
            f"{100 * least:g} and more" if limit == inf else f"{100 * least:g} to {100 * limit:g}"
        )
        rows.append([band, *cells, str(len(told) - len(attacked))])
    return table(heads, rows)


# --- Depth -------------------------------------------------------------------------


def relearning(stored: Stored) -> str:
    """How many rounds of poisoned training bring a backdoor back; one number for each seed."""
    heads = [
        *("row", "defence", "samples", "rounds until ASR is over 80 %", "ASR after one, %"),
        "after the last, %",
    ]
    alike: dict[tuple[str, str, str], list[Outcome | None]] = {}
    for cell in stored.profile.cells:
        if cell.deep:
            name = summary.group(stored.profile.rows[cell.row])
            outcome = stored.outcomes.get(cell.name)
            alike.setdefault((name, cell.defence, str(cell.samples)), []).append(outcome)
    rows = []
    for key, outcomes in alike.items():
        rates = [found["asr"] for each in outcomes if (found := _relearned(each))]
        ends = [_mean([series[place] for series in rates]) for place in (0, -1)]
        rows.append([*key, ", ".join(map(_rounds, outcomes)), *ends])
    return table(heads, rows)


def _relearned(outcome: Outcome | None) -> Content | None:
    found: Content | None = outcome.content.get("relearning") if outcome else None
    return found


def _rounds(outcome: Outcome | None) -> str:
    if outcome is not None and outcome.refused is not None:
        return "refused"
    found = _relearned(outcome)
    return MISSING if found is None else str(found["rounds"] or f"not in {len(found['asr'])}")


def _mean(rates: Sequence[float]) -> str:
    return rounded(sum(rates) / len(rates), 100, 1) if rates else MISSING


# --- Origins -----------------------------------------------------------------------


def origins(stored: Stored) -> str:
    """Where the results come from: commits, machines, versions, seeds."""
    trained = list(stored.trained.values())
    made = [outcome.content for outcome in stored.outcomes.values()]
    versions = Counter(
        f"{name} {version}"
        for content in (*trained, *made)
        for name, version in content["versions"].items()
    )
    versions.update(
        f"flain {content['info']['version']}" for content in made if "version" in content["info"]
    )
    kinds = {
        "commit of rows": Counter(content["commit"] for content in trained),
        "commit of results": Counter(content["commit"] for content in made),
        "machine": Counter(content["machine"] for content in (*trained, *made)),
        "version": versions,
        "seed of rows": Counter(str(content["row"]["seed"]) for content in trained),
    }
    rows = [
        [kind, value, f"{count:,}"]
        for kind, counts in kinds.items()
        for value, count in sorted(counts.items())
    ]
    return table(["", "", "files"], rows)
