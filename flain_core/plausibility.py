"""Whether what a holder answered can be true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .activation import ActivationStatistics
from .errors import DataError
from .network import Array, Layer
from .proof import Proof, error_allowed
from .question import Answer, Question
from .score import Scored, Tally

__all__ = ["check_answer"]

_ROUNDING = 1e-6
_MOST_VALUES = 2**53
"""Up to here a float64 counts exactly."""


def check_answer(
    answer: Answer,
    question: Question,
    *,
    layer: Layer | None,
    probes: Sequence[str],
    classify: bool,
) -> None:
    """Raise :class:`DataError` if an answer does not fit its question or cannot be true.

    A lie that is possible passes; merge by median or trimmed mean to bound what it can do.

    Args:
        answer: As it came.
        question: What was asked.
        layer: The layer that was asked about; None where none was.
        probes: The names of the probes; a holder may have no samples of some.
        classify: Whether totals are whole numbers of samples.
    """
    if question.task == "statistics":
        _check_statistics(answer.statistics, layer.neurons if layer else 0)
    elif question.task == "proof":
        _check_proof(answer.proof, layer.epsilon if layer else 0.0)
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
    _check_count(seen.count)
    possible = (
        (np.abs(seen.total) <= _little_more(seen.total_abs)).all()
        # Cauchy and Schwarz: the square of a sum is at most the count times the sum of squares.
        and (
            seen.total_abs <= _little_more(seen.count**0.5 * np.sqrt(np.abs(seen.total_square)))
        ).all()
        and (seen.total_abs >= 0).all()
        and (seen.total_square >= 0).all()
        and ((seen.active >= 0) & (seen.active <= seen.count)).all()
    )
    if not possible:
        raise DataError("the statistics contradict each other: no activations can have them")


def _check_proof(proof: Proof | None, epsilon: float) -> None:
    if proof is None:
        raise DataError("expected whether the cut is faithful; got nothing")
    # The larger the error of one, the more candidates everybody has to run in full.
    if proof.faithful and not 0 <= proof.error <= error_allowed(epsilon):
        raise DataError(
            f"expected the error of a faithful cut to be from 0 to {error_allowed(epsilon):g}; "
            f"got {proof.error:g}"
        )


def _check_count(count: int) -> None:
    if not 1 <= count <= _MOST_VALUES:
        raise DataError(f"expected at least one sample and at most 2**53 values; got {count:g}")


def _check_scored(scored: Scored, probes: Sequence[str], classify: bool) -> None:
    if not set(scored.probes) <= set(probes):
        raise DataError(f"expected no probes but {sorted(probes)}; got {sorted(scored.probes)}")
    for tally in (scored.clean, *scored.probes.values()):
        _check_tally(tally, classify)


def _check_tally(tally: Tally, classify: bool) -> None:
    _check_count(tally.count)
    if not np.isfinite((tally.total, tally.uncertain)).all() or tally.uncertain < 0:
        raise DataError(f"expected a finite total; got {tally}")
    if classify and tally.uncertain > tally.count:
        raise DataError(f"expected at most {tally.count} uncertain samples; got {tally.uncertain}")
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
