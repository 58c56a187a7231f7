"""Steps from candidate to candidate sample by sample: each costs only the samples that it changes.

Neurons that clean data hardly activates are zero on most samples, and flipping a neuron does not
change a sample on which that neuron is zero. This needs a layer and a tail that treat each sample
by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import numpy as np

from flain_core.flipping_order import FlippingOrder
from flain_core.network import SINGLE_PRECISION, Array, Cut
from flain_core.score import Margins
from flain_core.tallies import Scored

from .cut_batch import CutBatch, Tail, cuts_of, pre_activation, tail_by_sample
from .grader import Grader

_MOST_AT_ONCE = 16
_BYTES_AT_ONCE = 8 * 2**20
_BYTES_PER_CALL = 2**19
_NEURONS_AT_ONCE = 256
_SHARE_OF_WINDOW = 0.5


class BySample:
    """Steps sample by sample: follows all samples together, whichever batches they came in.

    Args:
        batches: All samples, with their cuts, the layer's pre-activations ``(n, out)``.
        flipping: Which neurons are flipped, and in which order.
        tail: Computes scores ``(m, classes)`` from pre-activations ``(m, out)`` of any samples.
        grader: Grades the scores.
        window: Relative error of a score that rounding can cause.
    """

    def __init__(
        self,
        batches: Sequence[CutBatch],
        flipping: FlippingOrder,
        tail: Tail,
        grader: Grader,
        window: float,
    ) -> None:
        cuts = cuts_of(batches)
        self._inputs = _by_neuron(cuts, flipping.order)
        self._order = flipping.order
        self._flipping = flipping
        self._output = np.concatenate([pre_activation(cut) for cut in cuts])
        self._y = np.concatenate([batch.samples.y for batch in batches])
        self._per_call = _samples_per_call(cuts)
        self._where = dict(_where(batches))
        self._tail = tail
        self._grader = grader
        self._window = window
        self.last = 0
        """Number of neurons that the last candidate flipped; the next one may not flip fewer."""
        self.doubtful: dict[int, Margins] = {}
        """Clean margins of the latest candidates in doubt, where only right or wrong counts."""
        self._changed = np.empty(
            (self.lookahead * len(self._y), self._output.shape[1]), self._output.dtype
        )
        self._margins = self._run(self._output, self._y)

    @property
    def lookahead(self) -> int:
        """Several candidates at once: few samples change with each, and a tail call takes many."""
        return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // max(self.work, 1)))

    @property
    def work(self) -> int:
        """Bytes of the pre-activation of all samples."""
        return int(self._output.nbytes)

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Score the candidates that flip the first ``n_flipped`` neurons of the order."""
        scored: list[Scored] = []
        self.doubtful = {}
        left = iter(n_flipped)
        while some := list(islice(left, self.lookahead)):
            scored += self._advance(some)
        return scored

    def _advance(self, n_flipped: Sequence[int]) -> Iterator[Scored]:
        changed: list[Array] = []
        filled = 0
        for n in n_flipped:
            changed.append(self._flip_up_to(n, self._changed[filled:]))
            filled += changed[-1].size
        y = self._y[np.concatenate(changed)]
        now = self._run(self._changed[:filled], y) if filled else None
        start = 0
        for n, each in zip(n_flipped, changed, strict=True):
            if now is not None:
                self._margins.put(each, now[start : start + each.size])
                start += each.size
            scored = self._scored()
            if scored.loss is None and scored.clean.uncertain:
                self.doubtful[n] = self._margins[self._where[None]].copy()
            yield scored

    def _flip_up_to(self, n_flipped: int, changed: Array) -> Array:
        """Return the samples that the candidate changes; put pre-activations to ``changed``."""
        new = slice(self.last, n_flipped)
        inputs, neurons = self._inputs[new], self._order[new]
        self.last = n_flipped
        samples = np.flatnonzero(inputs.any(axis=0))
        output = changed[: samples.size]
        # Anything but "raise" writes to the memory that is given without a buffer in between.
        self._output.take(samples, axis=0, out=output, mode="clip")
        for start in range(0, neurons.size, _NEURONS_AT_ONCE):
            few = slice(start, start + _NEURONS_AT_ONCE)
            # matmul takes five times as long as dot for a single neuron, the commonest case.
            change = self._flipping.change_by_neuron(neurons[few])
            output -= np.dot(inputs[few].take(samples, axis=1).T, change)
        self._output[samples] = output
        return samples

    def _run(self, output: Array, y: Array) -> Margins:
        parts = [slice(i, i + self._per_call) for i in range(0, len(y), self._per_call)]
        scores = [self._tail(output[part]) for part in parts]
        if self._grader.reading is None:
            clean = self._where[None]
            self._grader.recognise([np.concatenate(scores)[clean]], [y[clean]])
        return Margins.joined(
            [self._grader.margins(each, y[part]) for each, part in zip(scores, parts, strict=True)]
        )

    def _scored(self) -> Scored:
        tallies = {
            probe: self._margins[where].tally(self._window) for probe, where in self._where.items()
        }
        clean = self._margins[self._where[None]]
        return Scored.of(tallies, self._grader.loss(clean, self._window))


def by_sample(
    batches: Sequence[CutBatch], flipping: FlippingOrder, grader: Grader, window: float
) -> BySample | None:
    """Return a stepper by sample if all cuts were kept, allow it and agree with it, else None."""
    cuts = cuts_of(batches)
    layer = flipping.layer
    if len(cuts) < len(batches) or cuts[0].inputs.ndim != 2:
        return None
    # Half precision overflows, and a candidate that is looked ahead at must not fail a search.
    tail = tail_by_sample(cuts[0]) if layer.epsilon <= SINGLE_PRECISION else None
    if tail is None:
        return None
    # A framework says in its own ways that a tail takes no batch of another size.
    try:
        agrees = _agrees(tail, batches, flipping, _SHARE_OF_WINDOW * window)
    except Exception:
        return None
    return BySample(batches, flipping, tail, grader, window) if agrees else None


def _agrees(
    tail: Tail, batches: Sequence[CutBatch], flipping: FlippingOrder, allowed: float
) -> bool:
    """Return whether samples picked from all batches score as in their own, flipped or not."""
    cuts = cuts_of(batches)
    per_call = _samples_per_call(cuts)
    scores = np.concatenate([cut.tail(cut.output) for cut in cuts])
    # The large scores of a probe must not hide what is wrong with the clean ones.
    error = allowed * min(float(np.abs(scores[where]).max()) for _, where in _where(batches))
    output = np.concatenate([pre_activation(cut) for cut in cuts])
    if not _same_in_any_company(tail, per_call, output, scores, error):
        return False
    first, order = cuts[0], flipping.order
    for some in (order[: order.size // 2], order):
        scored = first.tail(first.output - flipping.taken(first, some))
        parts = flipping.parts(some)
        product = sum(first.inputs[:, few] @ flipping.change_by_neuron(few) for few in parts)
        error = allowed * float(np.abs(scored).max())
        output = pre_activation(first) - product
        if not _same_in_any_company(tail, per_call, output, scored, error):
            return False
    return True


def _same_in_any_company(
    tail: Tail, per_call: int, output: Array, scores: Array, allowed: float
) -> bool:
    """Return whether samples score alike alone, in another order and in other batches."""
    shuffled = np.random.default_rng(0).permutation(len(output))
    batches = np.split(shuffled, range(1, len(shuffled), per_call - 1 or 1))
    for samples in (*batches, np.resize(shuffled, per_call)):
        given, expected = tail(output[samples]), scores[samples]
        if given.shape != expected.shape:
            return False
        if not np.abs(given - expected).max() <= allowed:
            return False
    return True


def _by_neuron(cuts: Sequence[Cut], order: Array) -> Array:
    """``(m, n)``: what enters the layer, neuron after neuron of an order."""
    counts = [len(cut.inputs) for cut in cuts]
    inputs = np.empty((order.size, sum(counts)), cuts[0].inputs.dtype)
    parts = np.split(inputs, np.cumsum(counts[:-1]), axis=1)
    for part, cut in zip(parts, cuts, strict=True):
        part[:] = cut.inputs.T[order]
    return inputs


def _samples_per_call(cuts: Sequence[Cut]) -> int:
    """Return the size of a batch, or a few times that where samples are small, to save calls."""
    batch = max(len(cut.inputs) for cut in cuts)
    small = _BYTES_PER_CALL // int(pre_activation(cuts[0])[0].nbytes)
    return max(batch, min(4 * batch, small))


def _where(batches: Sequence[CutBatch]) -> Iterator[tuple[str | None, slice]]:
    """Yield the samples of the auxiliary data (None), then of each probe."""
    start = 0
    for probe, group in groupby(batches, key=lambda batch: batch.probe):
        end = start + sum(len(batch.samples) for batch in group)
        yield probe, slice(start, end)
        start = end
