"""Walks the events until the clean score drops. Pure logic: no model in sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from .outcome import Step, StopReason
from .sample_source import Candidates
from .schedule import Schedule
from .score import Scored, Tally
from .settings import Settings


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes:
        step: The chosen step; None if not even the first candidate is within the tolerance.
        steps: Every candidate tried.
        reason: The reason why it ended.
    """

    step: Step | None
    steps: tuple[Step, ...]
    reason: StopReason

    @property
    def neurons_flipped(self) -> int:
        """Number of neurons that the chosen candidate flips."""
        return self.step.neurons_flipped if self.step else 0


def search(
    schedule: Schedule,
    candidates: Candidates,
    settings: Settings,
    before: Tally,
    on_step: Callable[[Step], None] | None = None,
) -> Found:
    """Try the candidates of a schedule in order, until one loses too much of the clean score.

    Where the rounding of scores could change a decision, that candidate is computed exactly.

    Losses are counted from the clean tally ``before``; ``on_step`` is called after each step.
    """
    steps: list[Step] = []
    for threshold, n_flipped, scored in _scored(schedule, candidates):
        clean = scored.clean
        close = _is_close(clean, before, settings)
        if close:
            clean = candidates.score_in_full(n_flipped)
        step = Step(
            threshold=threshold,
            neurons_flipped=n_flipped,
            clean=clean.mean,
            probes=scored.probe_means(),
            recomputed=close,
            rounding=clean.uncertain / clean.count,
        )
        steps.append(step)
        if on_step:
            on_step(step)
        if settings.lost_too_much(before.total - clean.total, clean.count):
            chosen = step if settings.crossing == "keep" else _previous(steps)
            reason: StopReason = "tolerance" if chosen else "nothing within tolerance"
            return Found(chosen, tuple(steps), reason)
    return Found(steps[-1], tuple(steps), "exhausted")


def _scored(schedule: Schedule, candidates: Candidates) -> Iterator[tuple[float, int, Scored]]:
    """Yield each event with its scores; ask about as many at a time as pays."""
    events = iter(schedule)
    while block := list(islice(events, candidates.lookahead)):
        scores = candidates.advance([n_flipped for _, n_flipped in block])
        for (threshold, n_flipped), scored in zip(block, scores, strict=True):
            yield threshold, n_flipped, scored


def _is_close(clean: Tally, before: Tally, settings: Settings) -> bool:
    """Return whether the decision depends on samples that rounding could classify otherwise."""
    lost = before.total - clean.total
    least, most = lost - clean.uncertain, lost + clean.uncertain
    return settings.lost_too_much(least, clean.count) != settings.lost_too_much(most, clean.count)


def _previous(steps: list[Step]) -> Step | None:
    return steps[-2] if len(steps) > 1 else None
