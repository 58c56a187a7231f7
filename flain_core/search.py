"""Finds the candidate at which the clean score begins to drop. Pure logic: no model in sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from .outcome.layer import Step, StopReason
from .sample_source import Candidates
from .schedule import Schedule
from .score import Scored
from .settings import Settings
from .stop import crossed, is_close

_USUAL_END = 51


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes:
        step: The chosen step; None if not even the first candidate is within the tolerance.
        number: The chosen candidate's number; 0 for none.
        steps: Every candidate tried.
        numbers: Their numbers.
        reason: The reason why it ended.
    """

    step: Step | None
    number: int
    steps: tuple[Step, ...]
    numbers: tuple[int, ...]
    reason: StopReason


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
            return _found(steps, numbers, len(steps) - 1, settings)
    return _found(steps, numbers, len(steps), settings)


def bracket(
    schedule: Schedule,
    candidates: Candidates,
    settings: Settings,
    before: Scored,
    on_step: Callable[[Step], None] | None = None,
) -> Found:
    """Find a candidate that may be chosen beside one that loses too much, in few tries.

    It goes up or down in growing strides from where most searches end, and then halves the gap.
    """
    thresholds = {number: threshold for threshold, number in schedule}
    low, high, stride = 0, len(schedule) + 1, 1
    number = min(_USUAL_END, len(schedule))
    tried: dict[int, Step] = {}
    while high - low > 1:
        (scored,) = candidates.advance([number])
        tried[number] = _step(schedule, thresholds[number], number, scored)
        if on_step:
            on_step(tried[number])
        stride *= 2
        if crossed(settings, before, scored):
            high = number
            number = (low + high) // 2 if low else max(high - stride, 1)
        else:
            low = number
            number = (low + high) // 2 if high in tried else min(low + stride, len(schedule))
    numbers = sorted(tried)
    first = numbers.index(high) if high in tried else len(numbers)
    return _found([tried[each] for each in numbers], numbers, first, settings)


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
        probes=scored.probe_means(),
        recomputed=recomputed,
        rounding=scored.clean.uncertain / scored.clean.count,
    )


def _found(steps: Sequence[Step], numbers: Sequence[int], first: int, settings: Settings) -> Found:
    """Choose a step, where ``first`` is the place of the first that loses too much."""
    tried = tuple(steps), tuple(numbers)
    if first == len(steps):
        return Found(steps[-1], numbers[-1], *tried, "exhausted")
    chosen = first if settings.crossing == "keep" else first - 1
    if chosen < 0:
        return Found(None, 0, *tried, "nothing within tolerance")
    return Found(steps[chosen], numbers[chosen], *tried, "tolerance")


def _scored(schedule: Schedule, candidates: Candidates) -> Iterator[tuple[float, int, Scored]]:
    """Yield each event with its scores; ask about as many at a time as pays."""
    events = iter(schedule)
    while block := list(islice(events, candidates.lookahead)):
        scores = candidates.advance([n_flipped for _, n_flipped in block])
        for (threshold, n_flipped), scored in zip(block, scores, strict=True):
            yield threshold, n_flipped, scored
