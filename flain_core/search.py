"""Finds the candidate at which the clean score begins to drop. Pure logic: no model in sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from .network import Array
from .outcome.layer import Step, StopReason
from .sample_source import Candidates
from .schedule import Schedule
from .settings import Settings
from .stop import crossed, is_close, overspent
from .tallies import Scored

_USUAL_END = 51


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes:
        steps: Every candidate tried.
        numbers: Their numbers.
        permitted: Places of those that may be chosen, weakest first; the last of them is.
        reason: The reason why it ended.
    """

    steps: tuple[Step, ...]
    numbers: tuple[int, ...]
    permitted: Sequence[int]
    reason: StopReason

    @property
    def step(self) -> Step | None:
        """The chosen step; None if not even the first candidate is within the tolerance."""
        return self.steps[self.permitted[-1]] if self.permitted else None

    @property
    def number(self) -> int:
        """The chosen candidate's number; 0 for none."""
        return self.numbers[self.permitted[-1]] if self.permitted else 0


def search(
    schedule: Schedule,
    candidates: Candidates,
    settings: Settings,
    before: Scored,
    on_step: Callable[[Step], None] | None = None,
) -> Found:
    """Try the candidates of a schedule in order, until one loses too much of the clean score.

    Where the rounding of scores could change a decision, that candidate is computed exactly.

    Losses are counted from ``before``; ``on_step`` is called after each step.
    """
    steps: list[Step] = []
    numbers: list[int] = []
    for threshold, number, quick in _scored(schedule, candidates):
        close = is_close(settings, before, quick)
        scored = quick
        if close:
            scored = replace(candidates.score_in_full(number), probes=quick.probes)
        steps.append(_step(schedule, threshold, number, scored, recomputed=close))
        numbers.append(number)
        if on_step:
            on_step(steps[-1])
        if crossed(settings, before, scored):
            return _found(steps, numbers, {number}, len(steps) - 1, settings)
    return _found(steps, numbers, set(), len(steps), settings)


def bracket(
    schedule: Schedule,
    candidates: Candidates,
    settings: Settings,
    before: Scored,
    on_step: Callable[[Step], None] | None = None,
) -> Found:
    """Find a candidate that may be chosen beside one that loses too much, in few tries.

    A loss grows about as a power of the strength, so each try is where the losses so far suggest
    that the limit is reached. Where a promise was asked for, weaker candidates are tried as well,
    for the search to go back to. Accuracy is lost by whole samples, and a candidate may lose one
    more when it is written than in the search; so that counts as well.
    """
    thresholds = {number: threshold for threshold, number in schedule}
    tried: dict[int, Step] = {}
    beyond: set[int] = set()

    def overspent_by(number: int) -> float:
        (scored,) = candidates.advance([number])
        tried[number] = _step(schedule, thresholds[number], number, scored)
        if on_step:
            on_step(tried[number])
        spent = overspent(settings, before, scored)
        if spent <= 0 and scored.loss is None and candidates.as_written:
            spent = overspent(settings, before, candidates.as_written(number))
        if spent > 0:
            beyond.add(number)
        return spent

    low, high = _neighbours(schedule.thresholds, overspent_by)
    if settings.promise is not None:
        for weaker in _weaker(low):
            if weaker not in tried:
                overspent_by(weaker)
    numbers = sorted(tried)
    first = numbers.index(high) if high in tried else len(numbers)
    return _found([tried[each] for each in numbers], numbers, beyond, first, settings)


def _neighbours(strengths: Array, overspent_by: Callable[[int], float]) -> tuple[int, int]:
    """Return a candidate that does not cross and the next one, which does.

    0 and the number after the last stand for candidates that nobody tries.
    """
    spent: dict[int, float] = {}
    low, high, stride, halve = 0, len(strengths) + 1, 1, False
    number = min(_USUAL_END, len(strengths))
    while True:
        gap, between = high - low, low in spent and high in spent
        spent[number] = overspent_by(number)
        low, high = (low, number) if spent[number] > 0 else (number, high)
        if high - low == 1:
            return low, high
        # Expectations that once narrowed the gap too little cannot be relied on.
        halve = halve or (between and 2 * (high - low) > gap)
        expected = (low + high) // 2 if halve else _expected(strengths, spent, low, high, stride)
        number = min(max(expected, low + 1), high - 1)
        stride *= 2


def _expected(
    strengths: Array, spent: Mapping[int, float], low: int, high: int, stride: int
) -> int:
    """Return the last candidate that is expected not to cross.

    Where all tries lie on one side, it is ``stride`` times as far off as that, and at least
    ``stride`` candidates.
    """
    logarithms = np.log(strengths)
    if low in spent and high in spent:
        start, growth = logarithms[low - 1], logarithms[high - 1] - logarithms[low - 1]
        end = start - spent[low] * growth / (spent[high] - spent[low])
        return int(np.searchsorted(logarithms, end, side="right"))
    tried = low if low in spent else high
    end = logarithms[tried - 1] - stride * spent[tried]
    number = int(np.searchsorted(logarithms, end, side="right"))
    return max(number, tried + stride) if tried == low else min(number, tried - stride)


def _weaker(number: int) -> Iterator[int]:
    """Yield candidates below a given one, in growing strides.

    >>> list(_weaker(10))
    [9, 7, 3]
    """
    stride = 1
    while (number := number - stride) > 0:
        yield number
        stride *= 2


def _step(
    schedule: Schedule,
    threshold: float,
    number: int,
    scored: Scored,
    *,
    recomputed: bool = False,
) -> Step:
    return Step(
        threshold=threshold,
        neurons_flipped=schedule.neurons(number),
        clean=scored.clean.mean,
        loss=scored.loss.mean if scored.loss else None,
        loss_error=scored.loss.standard_error if scored.loss else None,
        class_share=scored.class_share,
        probes=scored.probe_means(),
        recomputed=recomputed,
        rounding=scored.clean.uncertain / scored.clean.count,
    )


def _found(
    steps: Sequence[Step],
    numbers: Sequence[int],
    beyond: Set[int],
    first: int,
    settings: Settings,
) -> Found:
    """Choose a step, where ``first`` is the place of the one beyond which none may be chosen."""
    permitted = [place for place in range(first) if numbers[place] not in beyond]
    if first == len(steps):
        return Found(tuple(steps), tuple(numbers), permitted, "exhausted")
    if settings.crossing == "keep":
        permitted.append(first)
    reason: StopReason = "tolerance" if permitted else "nothing within tolerance"
    return Found(tuple(steps), tuple(numbers), permitted, reason)


def _scored(schedule: Schedule, candidates: Candidates) -> Iterator[tuple[float, int, Scored]]:
    """Yield each event with its scores; ask about as many at a time as pays."""
    events = iter(schedule)
    while block := list(islice(events, candidates.lookahead)):
        scores = candidates.advance([n_flipped for _, n_flipped in block])
        for (threshold, n_flipped), scored in zip(block, scores, strict=True):
            yield threshold, n_flipped, scored
