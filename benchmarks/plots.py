"""Plots of holders of auxiliary samples that lie together, each in a way that no check finds.

Colluders know of the attack and of each other, and agree on what to say. Each still answers as real
samples could have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import TypeAlias

import numpy as np
from lies import (
    Lie,
    claiming,
    huge_sample_count,
    right_before_and_wrong_after,
    wrong_before_and_right_after,
)

from flain_core.activation import ActivationStatistics
from flain_core.federated.messages import Answer, Question
from flain_core.tallies import Scored

__all__ = ["PLOTS", "Plot", "told"]

Plot: TypeAlias = tuple[Lie, ...]
"""The lies of the first colluder, the second, and so on, and then from the start again."""

_LUCK = 3.0


def told(plot: Plot, colluders: int) -> tuple[Lie, ...]:
    """Return what each of so many colluders says."""
    return tuple(islice(cycle(plot), colluders))


def silent_and_active_swapped(question: Question, answer: Answer) -> Answer:  # noqa: ARG001
    """Claim that the less active half of the neurons is very active, and the other half silent."""
    seen = answer.statistics
    if seen is None:
        return answer
    mean = np.where(seen.total <= np.median(seen.total), 1000.0, 0.0)
    swapped = ActivationStatistics(
        count=seen.count,
        total=mean * seen.count,
        total_abs=mean * seen.count,
        total_square=mean**2 * seen.count,
        active=np.where(mean, seen.count, 0),
    )
    return replace(answer, statistics=swapped)


def _with_luck(question: Question, answer: Answer, *, errors: float) -> Answer:
    """Add as many standard errors to every loss, as other samples of the same kind might."""

    def said(number: int, scored: Scored) -> Scored:
        loss, clean = scored.loss, scored.clean
        if loss is None or not (number or question.state.weights):
            return scored
        share = max(loss.newly_wrong, 1) / loss.count
        wrong = round(errors * math.sqrt(share * (1 - share) * loss.count))
        wrong = min(max(wrong, -loss.newly_wrong), int(clean.total))
        lowest, highest = loss.before - loss.count, loss.before
        total = min(max(loss.total + errors * math.sqrt(loss.square), lowest), highest)
        spread = loss.square - loss.total**2 / loss.count
        shifted = replace(
            loss,
            total=total,
            square=min(spread + total**2 / loss.count, 2 * loss.before - total, loss.count),
            newly_wrong=loss.newly_wrong + wrong,
        )
        return replace(scored, clean=replace(clean, total=clean.total - wrong), loss=shifted)

    numbers = question.n_flipped or (0,)
    return replace(answer, scored=tuple(map(said, numbers, answer.scored)))


def _both(first: Lie, second: Lie) -> Lie:
    return lambda question, answer: second(question, first(question, answer))


# A model that nobody is right about would be left as it is.
_half_better = partial(claiming, before=0.5, after=1)
_none, _every = right_before_and_wrong_after, wrong_before_and_right_after

PLOTS: Mapping[str, Plot] = {
    "no flip is good": (_none,),
    "every flip is good": (_every,),
    "no flip is good, and every flip is": (_none, _every),
    "silent and active swapped": (silent_and_active_swapped,),
    "swapped, and every flip is good": (_both(silent_and_active_swapped, _every),),
    "huge counts, and every flip is good": (_both(huge_sample_count, _half_better),),
    "losses of unlucky samples": (partial(_with_luck, errors=_LUCK),),
    "losses of lucky samples": (partial(_with_luck, errors=-_LUCK),),
}
