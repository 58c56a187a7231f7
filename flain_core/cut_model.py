"""The cut model: the network runs once up to the layer; then a candidate costs what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .by_batch import ByBatch
from .by_sample import by_sample
from .flipping_order import FlippingOrder
from .piece import Piece
from .score import Score, Scored, accuracy

__all__ = ["CutModel", "cut_model"]


class CutModel(Protocol):
    """Scores candidates from the layer on.

    The pre-activation is linear in the weight, so flipping the neurons S changes it by
    ``-factor * linear(final - initial, S)``.
    """

    @property
    def lookahead(self) -> int:
        """How many candidates it pays to ask about at once, at least 1."""
        ...

    @property
    def end(self) -> int:
        """How many neurons the last candidate flipped: the next one may not flip fewer."""
        ...

    @property
    def work(self) -> int:
        """Bytes of the largest pre-activation that a candidate goes through."""
        ...

    def advance(self, ends: Sequence[int]) -> list[Scored]:
        """The clean tally and the probes of each candidate that flips ``order[:end]``."""
        ...


def cut_model(
    pieces: Sequence[Piece], flipping: FlippingOrder, score: Score, window: float
) -> CutModel:
    """Follow single samples where the cuts allow it, and whole batches elsewhere.

    Args:
        pieces: All samples, of cuts that run the layer once.
        flipping: Which neurons are flipped, and in which order.
        score: What a sample is worth. A function of the caller's sees whole batches.
        window: Relative error of a score that rounding can cause.
    """
    followed = by_sample(pieces, flipping, window) if score is accuracy else None
    return followed or ByBatch(pieces, flipping, score, window)
