"""Scores models and candidates on samples in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.auxiliary.items import each_leaf, leaves
from flain_core.auxiliary.samples import Samples
from flain_core.blocks import give_back_freed
from flain_core.flipping_order import FlippingOrder
from flain_core.in_directions.directions import Directions, Flipping
from flain_core.network import SINGLE_PRECISION, Array, Batch, Network
from flain_core.outcome.asked import Asked
from flain_core.outputs import Outputs, Reading
from flain_core.proof import Proof, check_deterministic, check_replaced, prove
from flain_core.sample_source import Candidates
from flain_core.score import Margins, Score
from flain_core.settings import Measure
from flain_core.tallies import Scored
from flain_core.threads import one_thread_for

from .by_batch import ByBatch
from .by_direction import by_direction, takes_outputs
from .by_sample import BySample, by_sample
from .cut_batch import CutBatch, bytes_fitted, bytes_kept, bytes_of_root, most_at_once
from .grader import Graded, Grader, naming
from .held_back import HeldBack
from .toward_classes import toward_classes

_SAMPLES_FOR_PROOF = 32
_RUNS_SEVERAL_TIMES = Proof(False, "the layer runs several times in one pass")

Stepper: TypeAlias = "ByBatch | BySample"
"""Steps from candidate to candidate at the cut, at the cost of the neurons that each flips."""


class _SteeringSamples(Protocol):
    """The samples that a scorer works with, and how they are measured.

    :class:`~flain_core.local_samples.LocalSamples` says what each part is.
    """

    @property
    def clean(self) -> Samples: ...
    @property
    def probes(self) -> Mapping[str, Samples]: ...
    @property
    def score(self) -> Score: ...
    @property
    def outputs(self) -> Outputs | None: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def memory_limit(self) -> int: ...


class LocalScorer:
    """Implements :class:`~flain_core.sample_source.Scorer`.

    Args:
        samples: The samples that decide, and the probes.
        measure: What a loss is measured of, as :class:`~flain_core.Settings` has it.
        keeps_inputs: Whether to keep what enters a dense layer, for flipping in directions.
    """

    asked: Asked | None = None
    left_out: Sequence[str] = ()

    def __init__(
        self,
        samples: _SteeringSamples,
        *,
        measure: Measure = "score",
        keeps_inputs: bool = False,
    ) -> None:
        self.held_back: HeldBack | None = None
        """Bears out a promise; None for none."""
        self.samples = samples
        self.batch_size = samples.batch_size
        """Samples per batch; None lets the size of a sample decide."""
        self._keeps_inputs = keeps_inputs
        self.grader = Grader(samples.score, samples.outputs, measure=measure)
        self._trained: Network | None = None
        self.batches: tuple[CutBatch, ...] = ()
        """All batches at the layer studied last; none if that does not run exactly once."""

    @property
    def reading(self) -> Reading | None:
        """Reading of the scores; None for the caller's score."""
        return self.grader.reading

    def score_of(
        self,
        network: Network,
        *,
        probes: bool = True,
        candidate: int | None = None,  # noqa: ARG002
    ) -> Scored:
        """Run a network in full on the clean samples and, unless told otherwise, the probes."""
        return self.grader.grade(self._scores(network, probes=probes))

    def study(self, network: Network, layer: str) -> tuple[ActivationStatistics, Array | None]:
        """Run everything once up to a layer, keeping as many cuts as the memory limit allows."""
        if self._trained is None:
            self._trained = network
        return self._study(network, layer, self.samples.batch_size)

    def _study(
        self, network: Network, layer: str, batch_size: int | None
    ) -> tuple[ActivationStatistics, Array | None]:
        self.batches = ()  # two layers are never in memory at once
        self.batch_size = batch_size
        if self.held_back is not None:
            self.held_back.batch_size = batch_size
        batches: list[CutBatch] = []
        statistics = ActivationStatistics()
        studied = network.layers()[layer] if self._keeps_inputs else None
        # Nothing is fitted to what is rounded more.
        fits = studied and studied.kind == "dense" and studied.epsilon <= SINGLE_PRECISION
        inputs: list[Array] | None = [] if fits else None
        once, fitted = True, 0
        left = self.samples.memory_limit
        for probe, batch in self._all_batches():
            if probe is not None and not (once and left > 0):
                batches.append(CutBatch(probe, batch, None))
                continue
            with naming(probe):
                cut = network.cut(layer, batch.x)
            once = once and cut.calls == 1
            if batch_size is None and once and (most := most_at_once(cut)) < len(cut.inputs):
                del cut
                return self._study(network, layer, most)
            if once:
                for_fit = 0 if inputs is None else bytes_fitted(cut)
                if inputs == []:
                    for_fit += bytes_of_root(cut, len(self.samples.clean))
                left -= bytes_kept(cut) + for_fit
                fitted += for_fit
            kept = once and left > 0
            if probe is None:
                statistics = statistics.update(cut.inputs)
                # A batch may be padded to a length of its own.
                alike = not inputs or inputs[0].shape[1:] == cut.inputs.shape[1:]
                if inputs is not None and kept and alike:
                    inputs.append(cut.inputs)
                elif inputs is not None:
                    # Nothing will be fitted, so there is room for further batches.
                    left += fitted
                    inputs = None
                    kept = once and left > 0
            batches.append(CutBatch(probe, batch, cut if kept else None))
            if not kept:
                give_back_freed()
        self.batches = tuple(_with_room_for_one(batches)) if once else ()
        if not inputs or studied is None or not takes_outputs(batches, studied.weight):
            return statistics, None
        return statistics, np.concatenate(inputs)

    def prove(self, flipping: Flipping, *, seed: int) -> Proof:
        """Compare the cut with the whole network on a few of the auxiliary samples."""
        few: Batch = next(self.samples.clean.batches(self.batch_size))[:_SAMPLES_FOR_PROOF].x
        half = (len(leaves(few)[0]) + 1) // 2
        fewer = each_leaf(few, lambda array: array[:half])
        check_deterministic(flipping.network, few, fewer, flipping.layer.epsilon)
        proof = prove(flipping, few, seed=seed) if self.batches else _RUNS_SEVERAL_TIMES
        if not proof.faithful:
            check_replaced(flipping, fewer)
        return proof

    def toward_classes(self, updates: Array) -> tuple[Array, Array, Array] | None:
        """Push the pre-activations of the auxiliary samples, where their cuts were kept."""
        return toward_classes(self.batches, self.grader, updates)

    @contextmanager
    def candidates(self, flipping: Flipping, *, window: float | None) -> Iterator[Candidates]:
        """Score candidates from the layer on; by running the whole network without a window."""
        if flipping.network is self._trained:
            self.grader.start_anew()

        def in_full(number: int, *, probes: bool = False) -> Scored:
            return self.score_of(flipping.candidate(number), probes=probes)

        if window is None:
            yield Candidates(lambda some: [in_full(n, probes=True) for n in some], in_full)
            return
        if isinstance(flipping, Directions):
            candidates = by_direction(self.batches, flipping, self.grader, window, in_full)
            work = flipping.space.centred.nbytes
        else:
            stepper = self.stepper(flipping, window)
            exactly = partial(self._exactly, flipping, stepper, window)
            candidates = Candidates(stepper.advance, exactly, stepper.lookahead)
            work = stepper.work
        # No other search goes through them, and they make room for copies of the network.
        self.batches = ()
        with one_thread_for(work):
            yield candidates

    def _exactly(
        self, flipping: FlippingOrder, stepper: Stepper, window: float, number: int
    ) -> Scored:
        """Run the whole network for a candidate, on the samples alone that rounding could decide.

        Where a loss is what is measured, rounding moves every sample.
        """
        network = flipping.candidate(number)
        margins = stepper.doubtful.get(number)
        if margins is None:
            return self.score_of(network, probes=False)
        doubtful = np.flatnonzero(margins.near(window))
        if doubtful.size:
            some = self.samples.clean[doubtful].batches(self.batch_size)
            seen = [self.grader.margins(network.predict(each.x), each.y) for each in some]
            margins.put(doubtful, Margins.joined(seen))
        return Scored(margins.tally(0.0))

    def stepper(self, flipping: FlippingOrder, window: float) -> Stepper:
        """Follow single samples where the cuts allow it, and whole batches elsewhere."""
        if self.grader.follows_samples:
            followed = by_sample(self.batches, flipping, self.grader, window)
            if followed:
                return followed
        return ByBatch(self.batches, flipping, self.grader, window)

    def _scores(self, network: Network, *, probes: bool) -> Iterator[Graded]:
        for probe, batch in self._all_batches(probes=probes):
            with naming(probe):
                scores = network.predict(batch.x)
            yield probe, batch.y, scores

    def _all_batches(self, *, probes: bool = True) -> Iterator[tuple[str | None, Samples]]:
        """Yield every batch with the name of its probe, None for the auxiliary samples."""
        measured = self.samples.probes.items() if probes else ()
        for probe, samples in ((None, self.samples.clean), *measured):
            for batch in samples.batches(self.batch_size):
                yield probe, batch


def _with_room_for_one(batches: Sequence[CutBatch]) -> Iterator[CutBatch]:
    """Let go of one cut if others could not be kept: in its place each of those is cut anew."""
    kept = [index for index, batch in enumerate(batches) if batch.cut]
    given_up = kept[-1] if kept and len(kept) < len(batches) else None
    for index, batch in enumerate(batches):
        yield replace(batch, cut=None) if index == given_up else batch
