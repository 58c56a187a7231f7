"""Steps from candidate to candidate batch by batch, which is right for every cut.

The network runs once up to the layer. The pre-activation is linear in the weight, so flipping the
neurons S changes it by ``-factor * linear(final - initial, S)``, and a candidate costs its newly
flipped neurons and the tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from flain_core.blocks import give_back_freed
from flain_core.flipping_order import FlippingOrder
from flain_core.network import Array, Cut
from flain_core.score import Margins
from flain_core.tallies import Scored

from .cut_batch import CutBatch, bytes_of, is_on_accelerator, tails_of
from .grader import Graded, Grader

_MOST_AT_ONCE = 32
_BYTES_AT_ONCE = 32 * 2**20
_BYTES_AT_ONCE_ON_ACCELERATOR = 2**28  # one that is waited for seldom is never idle


class ByBatch:
    """Steps batch by batch: a candidate costs its newly flipped neurons and a tail on every batch.

    Args:
        batches: All samples, of cuts that run the layer once.
        flipping: Which neurons are flipped, and in which order.
        grader: Grades the scores.
        window: Relative error of a score that rounding can cause.
    """

    def __init__(
        self, batches: Sequence[CutBatch], flipping: FlippingOrder, grader: Grader, window: float
    ) -> None:
        self._batches = batches
        self._flipping = flipping
        self._grader = grader
        self._window = window
        self._outputs = [batch.cut.output if batch.cut else None for batch in batches]
        self._some_are_cut_anew = any(batch.cut is None for batch in batches)
        # What every candidate changes of a large weight costs more than running its network.
        self._runs_in_full = flipping.is_large and self._some_are_cut_anew
        self.last = 0
        """Number of neurons that the last candidate flipped; the next one may not flip fewer."""
        self.doubtful: dict[int, Margins] = {}
        """Clean margins of the latest candidates in doubt, where only right or wrong counts."""

    @property
    def lookahead(self) -> int:
        """Several candidates at once, where they share what a single one would cost alone."""
        if self._runs_in_full:
            return 1
        cuts = [batch.cut for batch in self._batches]
        if None in cuts and not any(cut and tails_of(cut) for cut in cuts):
            return _MOST_AT_ONCE  # one after the other, from a cut that all of them share
        if not all(cut and tails_of(cut) is None for cut in cuts):
            output = next(output for output in self._outputs if output is not None)
            return min(_MOST_AT_ONCE, _few(output, self.work))
        return 1

    @property
    def work(self) -> int:
        """Bytes of the largest pre-activation, which each new candidate goes through."""
        return max((bytes_of(output) for output in self._outputs if output is not None), default=0)

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Score the candidates that flip the first ``n_flipped`` neurons of the order."""
        if self._runs_in_full and len(n_flipped) > 1:
            return [scored for each in n_flipped for scored in self.advance([each])]
        network = self._flipping.candidate(n_flipped[-1]) if self._runs_in_full else None
        scores: list[list[Graded]] = [[] for _ in n_flipped]
        for index, batch in enumerate(self._batches):
            by_candidate = (
                iter([network.predict(batch.samples.x)])
                if network is not None and batch.cut is None
                else self._scores(index, batch, n_flipped)
            )
            side_by_side = _side_by_side(by_candidate, len(n_flipped))
            for collected, each in zip(scores, side_by_side, strict=True):
                collected.append((batch.probe, batch.samples.y, each))
            if self._some_are_cut_anew:
                give_back_freed()
        self.last = n_flipped[-1]
        self.doubtful = {}
        return [self._graded(*each) for each in zip(n_flipped, scores, strict=True)]

    def _graded(self, n_flipped: int, scores: list[Graded]) -> Scored:
        scored = self._grader.grade(scores, self._window)
        by_right = self._grader.follows_samples and scored.loss is None
        if by_right and scored.clean.uncertain and self._grader.latest:
            self.doubtful[n_flipped] = self._grader.latest.copy()
        return scored

    def _scores(self, index: int, batch: CutBatch, n_flipped: Sequence[int]) -> Iterator[Array]:
        if batch.cut is None:
            flipping = self._flipping
            cut = flipping.network.cut(flipping.layer.name, batch.samples.x)
            output, start = cut.output, 0
        else:
            cut, output, start = batch.cut, self._outputs[index], self.last
        outputs = self._moved(cut, output, start, n_flipped)
        tails = tails_of(cut) if len(n_flipped) > 1 else None
        if tails is not None:
            # A batch that is not kept tells only now how large its pre-activation is.
            few = _few(output, bytes_of(output))
            while at_once := list(islice(outputs, few)):
                output = at_once[-1]
                yield from tails(at_once)
        else:
            for output in outputs:
                yield cut.tail(output)
        if batch.cut is not None:
            self._outputs[index] = output

    def _moved(self, cut: Cut, output: Any, start: int, n_flipped: Sequence[int]) -> Iterator[Any]:
        for end in n_flipped:
            newly_flipped = self._flipping.order[start:end]
            if newly_flipped.size:
                output = output - self._flipping.taken(cut, newly_flipped)
            start = end
            yield output


def _few(output: Any, nbytes: int) -> int:
    """Return how many pre-activations like one, of so many bytes, are computed at once."""
    most = _BYTES_AT_ONCE_ON_ACCELERATOR if is_on_accelerator(output) else _BYTES_AT_ONCE
    return max(1, most // max(nbytes, 1))


def _side_by_side(scores: Iterator[Array], count: int) -> Iterator[Array]:
    """Move what ``count`` candidates score on a batch into one array.

    If each kept its own place between large arrays that come and go, PyTorch could not use the
    places of those again (glibc finds no aligned room of just the size that is free).
    """
    room: Array | None = None
    for index, each in enumerate(scores):
        if room is None:
            room = np.empty((count, *each.shape), each.dtype)
        room[index] = each
        del each
        yield room[index]
