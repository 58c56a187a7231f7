"""Whether what a holder answered can be true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .activation import ActivationStatistics
from .errors import DataError
from .network import Array
from .question import Answer, Question
from .score import Scored, Tally

__all__ = ["check_answer"]

_ROUNDING = 1e-6


def check_answer(
    answer: Answer, question: Question, *, neurons: int, probes: Sequence[str], classify: bool
) -> None:
    """Raise :class:`DataError` if an answer does not fit its question or cannot be true.

    A lie that is possible passes; merge by median or trimmed mean to bound what it can do.

    Args:
        answer: As it came.
        question: What was asked.
        neurons: Input neurons of the layer.
        probes: The names of the probes; a holder may have no samples of some.
        classify: Whether totals are whole numbers of samples.
    """
    if question.task == "statistics":
        _check_statistics(answer.statistics, neurons)
    elif question.task == "proof":
        if answer.proof is None:
            raise DataError("expected whether the cut is faithful; got nothing")
    else:
        expected = max(len(question.ends), 1)
        if len(answer.scored) != expected:
            raise DataError(f"expected {expected} scores; got {len(answer.scored)}")
        for scored in answer.scored:
            _check_scored(scored, probes if question.probes else (), classify)
        counts = {_counts(scored) for scored in answer.scored}
        if len(counts) > 1:
            raise DataError("the number of samples changes from candidate to candidate")


def _check_statistics(seen: ActivationStatistics | None, neurons: int) -> None:
    if seen is None:
        raise DataError("expected statistics of the layer's inputs; got nothing")
    arrays = (seen.total, seen.total_abs, seen.total_square, seen.active)
    for array in arrays:
        if array.shape != (neurons,) or not np.isfinite(array).all():
            raise DataError(
                f"expected finite statistics of {neurons} input neurons; got shape {array.shape}, "
                "or NaN or infinity"
            )
    if seen.count < 1:
        raise DataError(f"expected statistics of at least one value; got {seen.count}")
    possible = (
        (np.abs(seen.total) <= _little_more(seen.total_abs)).all()
        # Cauchy and Schwarz: the square of a sum is at most the count times the sum of squares.
        and (seen.total_abs <= _little_more(np.sqrt(seen.count * np.abs(seen.total_square)))).all()
        and (seen.total_abs >= 0).all()
        and (seen.total_square >= 0).all()
        and ((seen.active >= 0) & (seen.active <= seen.count)).all()
    )
    if not possible:
        raise DataError("the statistics contradict each other: no activations can have them")


def _check_scored(scored: Scored, probes: Sequence[str], classify: bool) -> None:
    if not set(scored.probes) <= set(probes):
        raise DataError(f"expected no probes but {sorted(probes)}; got {sorted(scored.probes)}")
    for tally in (scored.clean, *scored.probes.values()):
        _check_tally(tally, classify)


def _check_tally(tally: Tally, classify: bool) -> None:
    numbers = (tally.total, tally.uncertain)
    if not np.isfinite(numbers).all() or tally.count < 1 or tally.uncertain < 0:
        raise DataError(f"expected a finite total over at least one sample; got {tally}")
    if classify and not (0 <= tally.total <= tally.count and float(tally.total).is_integer()):
        raise DataError(
            f"expected a whole number of samples that are right, from 0 to {tally.count}; "
            f"got {tally.total}"
        )


def _counts(scored: Scored) -> tuple[int, frozenset[tuple[str, int]]]:
    probes = ((name, tally.count) for name, tally in scored.probes.items())
    return scored.clean.count, frozenset(probes)


def _little_more(limit: Array) -> Array:
    more: Array = limit * (1 + _ROUNDING) + np.finfo(np.float64).tiny
    return more
