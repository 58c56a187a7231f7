"""Scores models and candidates on samples in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.directions import Directions
from flain_core.errors import ModelError
from flain_core.flipping import Flipping, FlippingOrder
from flain_core.network import Array, Batch, Network
from flain_core.outputs import Reading
from flain_core.proof import Proof, check_deterministic, prove
from flain_core.score import Scored
from flain_core.threads import one_thread_for

from .by_batch import ByBatch
from .by_direction import ByDirection, takes_outputs
from .by_sample import BySample, by_sample
from .cut_batch import CutBatch, bytes_kept
from .grader import Graded, Grader
from .held_back import HeldBack

if TYPE_CHECKING:
    from flain_core.local_samples import LocalSamples

__all__ = ["LocalCandidates", "LocalLayerScorer", "LocalScorer", "Stepper"]

_SAMPLES_FOR_PROOF = 32
_RUNS_SEVERAL_TIMES = Proof(False, "the layer runs several times in one pass")

Stepper: TypeAlias = "ByBatch | BySample | ByDirection"
"""Steps from candidate to candidate at the cut, at the cost of what each of them changes."""


class LocalScorer:
    """Implements :class:`~flain_core.sample_source.Scorer`.

    Args:
        samples: The samples that decide, and the probes.
        measures_loss: Whether to sum up what samples lost since the trained model as well.
        keeps_inputs: Whether to keep what enters a dense layer, for flipping in directions.
    """

    def __init__(
        self,
        samples: LocalSamples,
        *,
        measures_loss: bool = False,
        keeps_inputs: bool = False,
    ) -> None:
        self.held_back: HeldBack | None = None
        """Bears out a promise; None for none."""
        self.samples = samples
        self._keeps_inputs = keeps_inputs
        self.grader = Grader(samples.score, samples.outputs, measures_loss=measures_loss)
        self._trained: Network | None = None

    @property
    def reading(self) -> Reading | None:
        """How the scores are read; None for the caller's score."""
        return self.grader.reading

    def score_of(self, network: Network, *, probes: bool = True) -> Scored:
        """Run a network in full on the clean samples and, unless told otherwise, the probes."""
        return self.grader.grade(self._in_full(network, probes=probes))

    def study(self, network: Network, layer: str) -> LocalLayerScorer:
        """Run everything once up to a layer, keeping as many cuts as the memory limit allows."""
        if self._trained is None:
            self._trained = network
        batches: list[CutBatch] = []
        statistics = ActivationStatistics()
        inputs: list[Array] | None = [] if self._keeps_inputs else None
        once = True
        left = self.samples.memory_limit
        for probe, samples in ((None, self.samples.clean), *self.samples.probes.items()):
            for batch in samples.batches(self.samples.batch_size):
                if probe is not None and not (once and left > 0):
                    batches.append(CutBatch(probe, batch, None))
                    continue
                with _naming(probe):
                    cut = network.cut(layer, batch.x)
                once = once and cut.calls == 1
                flat = cut.inputs.ndim == 2
                if once:
                    # A copy in double precision, where one will be made.
                    copy = 8 * cut.inputs.size if flat and inputs is not None else 0
                    left -= bytes_kept(cut) + copy
                kept = once and left > 0
                if probe is None:
                    statistics = statistics.update(cut.inputs)
                    if inputs is not None and flat and kept:
                        inputs.append(cut.inputs)
                    else:
                        inputs = None
                batches.append(CutBatch(probe, batch, cut if kept else None))
        return LocalLayerScorer(
            scorer=self,
            statistics=statistics,
            inputs=np.concatenate(inputs) if inputs and takes_outputs(batches) else None,
            batches=tuple(batches) if once else (),
            of_trained=network is self._trained,
        )

    def _in_full(self, network: Network, *, probes: bool) -> Iterator[Graded]:
        measured = self.samples.probes.items() if probes else ()
        for probe, samples in ((None, self.samples.clean), *measured):
            for batch in samples.batches(self.samples.batch_size):
                with _naming(probe):
                    scores = network.predict(batch.x)
                yield probe, batch.y, scores


@dataclass(frozen=True, eq=False)
class LocalLayerScorer:
    """Samples that were run once up to a layer.

    Attributes:
        scorer: What scores the whole network.
        statistics: How the clean ones activate the layer's input neurons.
        inputs: ``(n, in)`` what enters the layer; None where it was not kept.
        batches: All batches; none if the layer does not run exactly once.
        of_trained: Whether the network is the trained model as it was given.
    """

    scorer: LocalScorer
    statistics: ActivationStatistics
    inputs: Array | None
    batches: tuple[CutBatch, ...]
    of_trained: bool = True

    def prove(self, flipping: Flipping, *, seed: int) -> Proof:
        """Compare the cut with the whole network on a few of the auxiliary samples."""
        few: Batch = self.scorer.samples.clean[:_SAMPLES_FOR_PROOF].x
        check_deterministic(flipping.network, few, flipping.layer.epsilon)
        return prove(flipping, few, seed=seed) if self.batches else _RUNS_SEVERAL_TIMES

    @contextmanager
    def candidates(self, flipping: Flipping, *, window: float | None) -> Iterator[LocalCandidates]:
        """Score candidates from the layer on; by running the whole network without a window."""
        if self.of_trained:
            self.scorer.grader.start_anew()
        stepper = None if window is None else self.stepper(flipping, window)
        with one_thread_for(stepper.work) if stepper else nullcontext():
            yield LocalCandidates(self.scorer, flipping, stepper)

    def stepper(self, flipping: Flipping, window: float) -> Stepper:
        """Follow single samples where the cuts allow it, and whole batches elsewhere."""
        grader = self.scorer.grader
        if isinstance(flipping, Directions):
            return ByDirection(self.batches, flipping, grader, window)
        if not isinstance(flipping, FlippingOrder):
            raise TypeError(f"expected Directions or a FlippingOrder; got {flipping!r}")
        if grader.follows_samples:
            followed = by_sample(self.batches, flipping, grader, window)
            if followed:
                return followed
        return ByBatch(self.batches, flipping, grader, window)


@dataclass(frozen=True, eq=False)
class LocalCandidates:
    """Scores candidates; implements :class:`~flain_core.sample_source.Candidates`.

    Attributes:
        scorer: What scores the whole network.
        flipping: What each candidate flips.
        stepper: Scores from the layer on; None runs the whole network for each candidate, which is
            slow and right.
    """

    scorer: LocalScorer
    flipping: Flipping
    stepper: Stepper | None = None

    @property
    def lookahead(self) -> int:
        """Number of candidates that it pays to ask about at once."""
        return self.stepper.lookahead if self.stepper else 1

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Score several candidates."""
        if self.stepper:
            return self.stepper.advance(n_flipped)
        return [self.scorer.score_of(self.flipping.candidate(n)) for n in n_flipped]

    def score_in_full(self, n_flipped: int) -> Scored:
        """Score the whole network with really flipped weights, on the clean samples."""
        return self.scorer.score_of(self.flipping.candidate(n_flipped), probes=False)

    def as_written(self, n_flipped: int) -> Scored | None:
        """Return what the written candidate has to score, where that differs from the search."""
        return self.stepper.as_written(n_flipped) if isinstance(self.stepper, ByDirection) else None

    def confirm(self, network: Network, n_flipped: int) -> Scored:  # noqa: ARG002
        """Score the candidate as it was written into ``network``."""
        return self.scorer.score_of(network)


@contextmanager
def _naming(probe: str | None) -> Iterator[None]:
    """Say which probe a model could not be run on; the clean samples are run first of all."""
    try:
        yield
    except ModelError as error:
        if probe is None:
            raise
        raise ModelError(f"probe {probe!r}: {error}") from error
