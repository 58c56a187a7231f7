"""Advice whose every claim is computed from the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import summary, tables, tables_of_runs, tables_of_samples
from .markdown import rounded
from .stored import Stored
from .summary import (
    FLAIN,
    MOST,
    SAMPLES,
    Runs,
    attacked,
    drop,
    field,
    is_aware,
    is_mnist,
    mean,
    plain,
    worst,
)

# Advice calls a backdoor alive with more ASR than this, and a loss of ACC dear with more points.
ALIVE, DEAR = 0.2, 0.01
_TELLING = 0.02  # how far apart the ASR that numbers of samples leave must be to prefer one
_MISSING = "the results that would tell are missing."
asr = field("asr")


def advice(stored: Stored) -> list[str]:
    """Sentences on samples, layers, companions, costs and failures."""
    return [
        f"**How many samples.** {samples(stored)}",
        f"**Which layer.** {layer(stored)}",
        f"**What to combine it with.** {company(stored)}",
        f"**Where a backdoor stays.** {alive(stored)}",
        f"**Where it costs much.** {dear(stored)}",
        f"**Who gathers the samples.** {poisoned(stored)}",
    ]


def samples(stored: Stored) -> str:
    """The fewest samples of 800, 300 and 100 with the largest share of clean models."""
    by_size = {
        size: (found, value)
        for size in SAMPLES
        if (found := plain(stored, FLAIN, size, attacked(is_mnist)))
        and (value := summary.share(summary.is_clean, found).value) is not None
    }
    if len(by_size) < len(SAMPLES):
        return f"Unknown: {_MISSING}"
    best = max(by_size, key=lambda size: (round(by_size[size][1], 2), -size))
    told = "; ".join(
        f"with {size} it was {_percent(value)} % of {len(found.outcomes)}, "
        f"and the worst drop of ACC {_worst(found)} points"
        for size, (found, value) in by_size.items()
    )
    return (
        f"Of {_listed(SAMPLES, 'and')} samples, give it {best} for a model like those of MNIST: on "
        "attacked rows no other number left a share of clean models that is larger by a percent "
        f"({told})."
        f"{_never(stored)}{_unpromised(stored)}"
    )


def _never(stored: Stored) -> str:
    """The data on which no number of samples left a clean model, where all were tried."""
    never = {}
    for name, test in summary.DATA.items():
        found = [plain(stored, FLAIN, size, attacked(test)) for size in SAMPLES]
        shares = [summary.share(summary.is_clean, each).value for each in found]
        if all(value == 0 for value in shares):
            never[name] = [value for each in found if (value := _asr(each)) is not None]
    if not never:
        return ""
    left = "; ".join(
        f"{name} {', '.join(map(_percent, values))} %{_best_of(values)}"
        for name, values in never.items()
    )
    return (
        f" On {_listed(list(never), 'and')} no number left a clean model; the mean ASR after with "
        f"{_listed(SAMPLES, 'and')} samples was: {left}."
    )


def _best_of(left: Sequence[float]) -> str:
    """Which number of samples left the least ASR, where that tells anything."""
    tells = len(left) == len(SAMPLES) and max(left) - min(left) > _TELLING
    return f", so give it {SAMPLES[left.index(min(left))]}" if tells else ""


def _listed(values: Sequence[object], last: str) -> str:
    words = list(map(str, values))
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _unpromised(stored: Stored) -> str:
    """The numbers of clean samples with which no run had a promise."""
    sizes = sorted({cell.samples for cell in stored.profile.cells if cell.defence == FLAIN})
    found = {size: tables_of_runs.promises_of(stored, size) for size in sizes}
    none = [f"{size:,}" for size, told in found.items() if told.without and not told.promised]
    return f" With {_listed(none, 'or')} samples flain promised nothing." if none else ""


def layer(stored: Stored) -> str:
    """What an attacker gains who leaves alone the layer that flain chooses."""
    names = sorted(
        {
            name
            for outcome in stored.outcomes.values()
            if outcome.cell.defence == FLAIN
            for name in outcome.content["info"].get("flipped", ())
        }
    )
    runs = plain(stored, FLAIN, MOST, lambda row: is_aware(row) and row.technique == "freeze")
    frozen = _asr(runs)
    known = " Every figure here is of the layer that flain chose itself"
    known = f"{known} ({', '.join(f'`{name}`' for name in names)})." if names else ""
    if frozen is None:
        return f"Unknown for attackers who keep off that layer: {_MISSING}{known}"
    if frozen > ALIVE:
        return (
            f"A backdoor in other layers stays: attackers who left `fc1` alone kept an ASR of "
            f"{_percent(frozen)} % on average.{known}"
        )
    alive = sum(asr(outcome) > ALIVE for outcome in runs.outcomes)
    enough = "enough" if not alive else "mostly enough"
    return (
        f"The default was {enough} here, even against attackers who left `fc1` alone: they kept an "
        f"ASR of {_percent(frozen)} % on average, and more than {_percent(ALIVE)} % in {alive} of "
        f"{len(runs.outcomes)} models.{known}"
    )


def company(stored: Stored) -> str:
    """The strategy before flain that leaves the least ASR, against FedAvg before flain."""
    left: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    for strategy, trigger in tables.pairs(stored):
        for outcome in tables.followed(stored, strategy, trigger).outcomes:
            left.setdefault(strategy, []).append(asr(outcome))
            alone.setdefault(strategy, []).append(float(outcome.content["asr_before"]))
    means = {strategy: sum(values) / len(values) for strategy, values in left.items()}
    robust = {strategy: value for strategy, value in means.items() if strategy != "fedavg"}
    if not robust or "fedavg" not in means:
        return f"Unknown: {_MISSING}"
    best = min(robust, key=lambda strategy: (robust[strategy], strategy))
    before = sum(alone[best]) / len(alone[best])
    least = min(sum(values) / len(values) for name, values in alone.items() if name != "fedavg")
    alone_told = f"Alone, no robust strategy left less than {_percent(least)} %."
    if means["fedavg"] <= robust[best] + summary.CLEAN_ASR:
        return (
            "Before flain, no robust strategy was worth much more than FedAvg: FedAvg followed by "
            f"flain left a mean ASR of {_percent(means['fedavg'])} %, and the best of the others, "
            f"{best} followed by flain, {_percent(robust[best])} %. {alone_told}"
        )
    return (
        f"Of the robust strategies, {best} followed by flain left the least ASR, "
        f"{_percent(robust[best])} % on average, where {best} alone left {_percent(before)} %; "
        f"FedAvg followed by flain left {_percent(means['fedavg'])} %. {alone_told}"
    )


def alive(stored: Stored) -> str:
    """The groups of rows whose mean ASR after flain is over 20 %."""
    found = [
        f"`{name}` ({_percent(value)} %)"
        for name, runs in _groups(stored)
        if (value := _asr(runs)) is not None and value > ALIVE
    ]
    if not found:
        return f"On no group of rows was the mean ASR after over {_percent(ALIVE)} %."
    return f"Mean ASR after over {_percent(ALIVE)} %: {', '.join(found)}."


def dear(stored: Stored) -> str:
    """The groups of rows whose mean drop of ACC is over one point."""
    found = [
        f"`{name}` ({rounded(value, 100, 2)} points)"
        for name, runs in _groups(stored)
        if (value := mean(drop, runs).value) is not None and value > DEAR
    ]
    if not found:
        return f"On no group of rows was the mean drop of ACC over {_percent(DEAR)} point."
    return f"Mean drop of ACC over {_percent(DEAR)} point: {', '.join(found)}."


def poisoned(stored: Stored) -> str:
    """Clean samples against those of which 5 % are poisoned, on the same rows."""
    clean, bad = (
        tables_of_samples.of_kind(stored, kind, FLAIN, attacked=True)
        for kind in ("clean", "poisoned")
    )
    both = {each.row.name for each in clean.outcomes} & {each.row.name for each in bad.outcomes}
    if not both:
        return f"Unknown: {_MISSING}"
    means = [
        sum(asr(each) for each in runs.outcomes if each.row.name in both) / len(both)
        for runs in (clean, bad)
    ]
    told = (
        f"One attacker among those who gather the auxiliary samples matters: with 5 % of them "
        f"poisoned, the mean ASR after was {_percent(means[1])} % instead of {_percent(means[0])} %"
    )
    if means[1] <= means[0] + summary.CLEAN_ASR:
        told = (
            f"Poisoned auxiliary samples did not matter here: with 5 % of them poisoned, the mean "
            f"ASR after was {_percent(means[1])} %, and {_percent(means[0])} % without"
        )
    return f"{told}, as means over {len(both)} models."


def _groups(stored: Stored) -> Iterator[tuple[str, Runs]]:
    for name in tables.groups(stored):
        yield name, tables.of_flain(stored, name)


def _asr(found: Runs) -> float | None:
    """The mean ASR after on attacked rows."""
    rates = [asr(outcome) for outcome in found.outcomes if outcome.row.mcr > 0]
    return sum(rates) / len(rates) if rates else None


def _worst(found: Runs) -> str:
    value = worst(drop, found).value
    return "unknown" if value is None else rounded(value, 100, 2)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")
