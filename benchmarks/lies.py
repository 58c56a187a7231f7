"""Lies that a holder of auxiliary samples can tell and that real samples could have told as well.

Each turns the honest answer to a question into another that goes with all others of its kind, so
that no check of a single holder finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.federated.messages import Answer, Question
from flain_core.tallies import Loss, Scored, Tally

__all__ = ["LIES", "Lie", "claiming"]

Lie: TypeAlias = Callable[[Question, Answer], Answer]
"""Turns an honest answer to a question into another one."""

_HUGE = 2**30


def claiming(question: Question, answer: Answer, *, before: float, after: float) -> Answer:
    """Say that the model, or a candidate, gives this probability to each true class on average."""

    def said(number: int, scored: Scored) -> Scored:
        trained = not number and not question.state.weights
        count, now = scored.clean.count, before if trained else after
        lost = before - now
        loss = Loss(
            total=lost * count,
            square=lost**2 * count,
            newly_wrong=int(max(lost, 0) * count),
            count=count,
            before=before * count,
        )
        return Scored(Tally(int(now * count), count), loss=loss if question.loss else None)

    numbers = question.n_flipped or (0,)
    return _sure(replace(answer, scored=tuple(map(said, numbers, answer.scored))))


def _sure(answer: Answer) -> Answer:
    """Say that the model is sure, and takes as many samples for each class as are of it."""
    reading = answer.reading
    if reading is None:
        return answer
    return replace(
        answer, reading=replace(reading, confidence=1.0, excess=np.zeros(reading.classes))
    )


def right_before_and_wrong_after(question: Question, answer: Answer) -> Answer:
    """Claim that every flip ruins the model, so that nothing is flipped."""
    return claiming(question, answer, before=1, after=0)


def wrong_before_and_right_after(question: Question, answer: Answer) -> Answer:
    """Claim that every flip mends the model, so that all is flipped."""
    return claiming(question, answer, before=0, after=1)


def all_of_another_class(question: Question, answer: Answer) -> Answer:
    """Claim that the model, hardly sure, takes all samples for one class and they are of another.

    So samples look as if they could not steer, or not by the probability.
    """
    answer, reading = claiming(question, answer, before=0, after=0), answer.reading
    if reading is None:
        return answer
    excess = np.zeros(reading.classes)
    excess[:2] = 1, -1
    return replace(answer, reading=replace(reading, confidence=1 / reading.classes, excess=excess))


def always_perfect(question: Question, answer: Answer) -> Answer:
    """Claim that nothing is ever lost."""
    return claiming(question, answer, before=1, after=1)


def statistics_upside_down(question: Question, answer: Answer) -> Answer:  # noqa: ARG001
    """Claim that the most active neurons are silent, and the silent ones very active."""
    seen = answer.statistics
    if seen is None:
        return answer
    mean = 1000 * (seen.total.max() - seen.total) / seen.count
    upside_down = ActivationStatistics(
        count=seen.count,
        total=mean * seen.count,
        total_abs=mean * seen.count,
        total_square=mean**2 * seen.count,
        active=np.full(mean.shape, seen.count, dtype=np.int64),
    )
    return replace(answer, statistics=upside_down)


def huge_sample_count(question: Question, answer: Answer) -> Answer:
    """Claim to have 2^30 times the samples, on which nothing is ever lost."""
    seen = answer.statistics
    if seen is not None:
        names = ("count", "total", "total_abs", "total_square", "active")
        sums = {name: getattr(seen, name) * _HUGE for name in names}
        answer = replace(answer, statistics=ActivationStatistics(**sums))
    scored = tuple(
        replace(each, clean=replace(each.clean, count=each.clean.count * _HUGE))
        for each in answer.scored
    )
    return always_perfect(question, replace(answer, scored=scored))


LIES: Mapping[str, Lie] = {
    lie.__name__.replace("_", " "): lie
    for lie in (
        right_before_and_wrong_after,
        wrong_before_and_right_after,
        always_perfect,
        all_of_another_class,
        statistics_upside_down,
        huge_sample_count,
    )
}
