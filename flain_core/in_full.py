"""What a candidate scores when the whole network runs."""

from __future__ import annotations

from collections.abc import Sequence

from .examiner import Examiner
from .flipping_order import FlippingOrder
from .score import Scored, Tally

__all__ = ["InFull"]


class InFull:
    """Writes the flipped weight and runs the whole network for each candidate. Slow and right."""

    lookahead = 1

    def __init__(self, flipping: FlippingOrder, examiner: Examiner) -> None:
        self._flipping = flipping
        self._examiner = examiner

    def advance(self, ends: Sequence[int]) -> list[Scored]:
        """The clean tally and the probes of each candidate that flips ``order[:end]``."""
        return [self.in_full(end) for end in ends]

    def in_full(self, end: int) -> Scored:
        """The same for one candidate."""
        return self._examiner.of(self._flipping.candidate(end))

    def exactly(self, end: int) -> Tally:
        """The clean tally alone."""
        return self._examiner.clean_tally(self._flipping.candidate(end))
