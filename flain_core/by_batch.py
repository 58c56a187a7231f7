"""The cut model, updated batch by batch: right for every cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from .flipping_order import FlippingOrder
from .network import Array, Cut
from .piece import Piece, bytes_of
from .score import Score, Scored, Tally, tally

__all__ = ["ByBatch"]

_MOST_AT_ONCE = 32
_BYTES_AT_ONCE = 32 * 2**20


class ByBatch:
    """A candidate costs its newly flipped neurons and a tail, on every batch.

    Args:
        pieces: All samples, of cuts that run the layer once.
        flipping: Which neurons are flipped, and in which order.
        score: What a sample is worth.
        window: Relative error of a score that rounding can cause.
    """

    def __init__(
        self, pieces: Sequence[Piece], flipping: FlippingOrder, score: Score, window: float
    ) -> None:
        self._pieces = pieces
        self._flipping = flipping
        self._score = score
        self._window = window
        self._outputs = [piece.cut.output if piece.cut else None for piece in pieces]
        self._end = 0
        self._change = flipping.change

    @property
    def lookahead(self) -> int:
        """Several candidates where they share what a single one would cost alone."""
        if not all(piece.cut and _tails(piece.cut) is None for piece in self._pieces):
            return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // max(self.work, 1)))
        return 1

    @property
    def end(self) -> int:
        """How many neurons the last candidate flipped: the next one may not flip fewer."""
        return self._end

    @property
    def work(self) -> int:
        """Bytes of the largest pre-activation, which each new candidate goes through."""
        return max((bytes_of(output) for output in self._outputs if output is not None), default=0)

    def advance(self, ends: Sequence[int]) -> list[Scored]:
        """The clean tally and the probes of each candidate that flips ``order[:end]``."""
        tallies: list[dict[str | None, Tally]] = [{} for _ in ends]
        for index, piece in enumerate(self._pieces):
            scores = self._scores(index, piece, ends)
            for tallied, each in zip(tallies, scores, strict=True):
                seen = tally(self._score, each, piece.samples.y, self._window)
                tallied[piece.probe] = tallied.get(piece.probe, Tally()) + seen
        self._end = ends[-1]
        return [Scored.of(each) for each in tallies]

    def _scores(self, index: int, piece: Piece, ends: Sequence[int]) -> Iterator[Array]:
        if piece.cut is None:
            flipping = self._flipping
            cut = flipping.network.cut(flipping.layer.name, piece.samples.x)
            output, start = cut.output, 0
        else:
            cut, output, start = piece.cut, self._outputs[index], self._end
        outputs = self._moved(cut, output, start, ends)
        tails = _tails(cut) if len(ends) > 1 else None
        if tails is not None:
            # A batch that is not kept tells only now how large its pre-activation is.
            few = max(1, _BYTES_AT_ONCE // max(bytes_of(output), 1))
            while at_once := list(islice(outputs, few)):
                output = at_once[-1]
                yield from tails(at_once)
        else:
            for output in outputs:
                yield cut.tail(output)
        if piece.cut is not None:
            self._outputs[index] = output

    def _moved(self, cut: Cut, output: Any, start: int, ends: Sequence[int]) -> Iterator[Any]:
        for end in ends:
            newly_flipped = self._flipping.order[start:end]
            if newly_flipped.size:
                output = output - cut.linear(self._change, newly_flipped)
            start = end
            yield output


def _tails(cut: Cut) -> Callable[[Sequence[Any]], Iterable[Array]] | None:
    tails: Callable[[Sequence[Any]], Iterable[Array]] | None = getattr(cut, "tails", None)
    return tails
