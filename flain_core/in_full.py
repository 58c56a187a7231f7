"""What a candidate scores when the whole network runs."""

from __future__ import annotations

from collections.abc import Sequence

from .examiner import Examiner
from .flipping_order import FlippingOrder
from .network import Network
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
        return [self.confirm(self._flipping.candidate(end), end) for end in ends]

    def confirm(self, network: Network, end: int) -> Scored:  # noqa: ARG002
        """What a candidate scores as it was written into ``network``."""
        return self._examiner.of(network)

    def exactly(self, end: int) -> Tally:
        """The clean tally alone."""
        return self._examiner.clean_tally(self._flipping.candidate(end))
