"""The auxiliary samples in memory, and what models and candidates score on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from inspect import signature
from operator import add
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from .activation import ActivationStatistics
from .by_batch import ByBatch, CutBatch, bytes_kept
from .by_sample import BySample, by_sample
from .errors import SettingsError
from .flipping import FlippingOrder
from .network import Batch, Network
from .options import MEMORY_LIMIT, SampleOptions
from .proof import Proof, check_deterministic, prove
from .sample_source import SampleFacts, SampleSource, is_sample_source
from .samples import Samples
from .score import Score, Scored, Tally, accuracy, tally
from .settings import whole_number
from .threads import one_thread_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LocalLayerScorer", "LocalSamples", "Stepper", "source_of"]

_SAMPLES_FOR_PROOF = 32
_RUNS_SEVERAL_TIMES = Proof(False, "the layer runs several times in one pass")

Stepper: TypeAlias = "ByBatch | BySample"
"""Steps from candidate to candidate at the cut, at the cost of what each of them changes."""


@dataclass(frozen=True, eq=False)
class LocalSamples:
    """The samples that every candidate is scored on.

    It implements :class:`~flain_core.sample_source.SampleSource` and
    :class:`~flain_core.sample_source.Scorer`.

    Attributes:
        clean: The auxiliary samples, which steer the search.
        probes: Further samples, which are only reported.
        score: What a sample is worth.
        batch_size: Samples per batch; None lets the size of a sample decide.
        memory_limit: Bytes that may be spent on keeping cut batches.
    """

    clean: Samples
    probes: Mapping[str, Samples] = field(default_factory=dict)
    score: Score = accuracy
    batch_size: int | None = None
    memory_limit: int = MEMORY_LIMIT

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        probes: Mapping[str, Any] | None = None,
        score: Score = accuracy,
        batch_size: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> LocalSamples:
        """Read the samples, in any form that :meth:`Samples.of` takes.

        Raises:
            DataError: Samples cannot be used.
            SettingsError: An option is out of range or of the wrong type.
        """
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size, in samples,", least=1)
        if not callable(score):
            raise SettingsError(
                f"expected score to be a function of (scores, y); got {score!r}. Leave it out for "
                "top-1 accuracy"
            )
        classify = score is accuracy
        return cls(
            clean=Samples.of(data, classify=classify),
            probes={
                name: Samples.of(probe, name=f"probe {name!r}", classify=classify)
                for name, probe in _checked_probes(probes).items()
            },
            score=score,
            batch_size=batch_size,
            memory_limit=whole_number(memory_limit, "memory_limit, in bytes,", least=0),
        )

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples."""
        if self.score is not accuracy:
            return SampleFacts(classify=False, local=True)
        classes = int(np.unique(self.clean.y).size)
        return SampleFacts(classes=classes, one_hot=self.clean.one_hot, local=True)

    def scorer(self, network: Network) -> LocalSamples:  # noqa: ARG002
        """Return self, which scores any network."""
        return self

    def score_of(self, network: Network, *, probes: bool = True) -> Scored:
        """Run a network in full on the clean samples and, unless told otherwise, the probes."""
        measured = self.probes.items() if probes else ()
        return Scored(
            self._total(network, self.clean),
            {name: self._total(network, samples) for name, samples in measured},
        )

    def study(self, network: Network, layer: str) -> LocalLayerScorer:
        """Run everything once up to a layer, keeping as many cuts as the memory limit allows."""
        batches: list[CutBatch] = []
        statistics = ActivationStatistics()
        once = True
        left = self.memory_limit
        for probe, samples in ((None, self.clean), *self.probes.items()):
            for batch in samples.batches(self.batch_size):
                if probe is not None and not (once and left > 0):
                    batches.append(CutBatch(probe, batch, None))
                    continue
                cut = network.cut(layer, batch.x)
                if probe is None:
                    statistics = statistics.update(cut.inputs)
                once = once and cut.calls == 1
                if once:
                    left -= bytes_kept(cut)
                batches.append(CutBatch(probe, batch, cut if once and left > 0 else None))
        return LocalLayerScorer(self, statistics, tuple(batches) if once else ())

    def _total(self, network: Network, samples: Samples) -> Tally:
        batches = samples.batches(self.batch_size)
        tallies = (tally(self.score, network.predict(batch.x), batch.y) for batch in batches)
        return reduce(add, tallies)


def source_of(data: Any, **options: Unpack[SampleOptions]) -> SampleSource:
    """Read and check what a caller gave as data.

    Args:
        data: As :meth:`LocalSamples.of` takes it; or a source of samples that lie elsewhere, which
            has options of its own.
        options: The options of :func:`flain_core.purify` that concern samples.

    Raises:
        DataError: Samples cannot be used.
        SettingsError: An option is out of range, of the wrong type, or belongs to the source.
    """
    if not is_sample_source(data):
        return LocalSamples.of(data, **options)
    given = [name for name, value in options.items() if not _is_default(name, value)]
    if given:
        raise SettingsError(
            f"give {', '.join(given)} to the {type(data).__name__}, which holds the samples, and "
            "not to purify"
        )
    return cast("SampleSource", data)


@dataclass(frozen=True, eq=False)
class LocalLayerScorer:
    """Samples that were run once up to a layer.

    Attributes:
        samples: The samples.
        statistics: How the clean ones activate the layer's input neurons.
        batches: All batches; none if the layer does not run exactly once.
    """

    samples: LocalSamples
    statistics: ActivationStatistics
    batches: tuple[CutBatch, ...]

    def prove(self, flipping: FlippingOrder, *, seed: int) -> Proof:
        """Compare the cut with the whole network on a few of the auxiliary samples."""
        few: Batch = self.samples.clean[:_SAMPLES_FOR_PROOF].x
        check_deterministic(flipping.network, few, flipping.layer.epsilon)
        return prove(flipping, few, seed=seed) if self.batches else _RUNS_SEVERAL_TIMES

    @contextmanager
    def candidates(
        self, flipping: FlippingOrder, *, window: float | None
    ) -> Iterator[LocalCandidates]:
        """Score candidates from the layer on; by running the whole network without a window."""
        if window is None:
            yield LocalCandidates(self.samples, flipping)
            return
        stepper = self.stepper(flipping, window)
        with one_thread_for(stepper.work):
            yield LocalCandidates(self.samples, flipping, stepper)

    def stepper(self, flipping: FlippingOrder, window: float) -> Stepper:
        """Follow single samples where the cuts allow it, and whole batches elsewhere."""
        score = self.samples.score
        # A caller's score function sees whole batches.
        followed = by_sample(self.batches, flipping, window) if score is accuracy else None
        return followed or ByBatch(self.batches, flipping, score, window)


@dataclass(frozen=True, eq=False)
class LocalCandidates:
    """Scores candidates; implements :class:`~flain_core.sample_source.Candidates`.

    Attributes:
        samples: The samples.
        flipping: Which neurons are flipped, and in which order.
        stepper: Scores from the layer on; None runs the whole network for each candidate, which is
            slow and right.
    """

    samples: LocalSamples
    flipping: FlippingOrder
    stepper: Stepper | None = None

    @property
    def lookahead(self) -> int:
        """Number of candidates that it pays to ask about at once."""
        return self.stepper.lookahead if self.stepper else 1

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Score several candidates."""
        if self.stepper:
            return self.stepper.advance(n_flipped)
        return [self.samples.score_of(self.flipping.candidate(n)) for n in n_flipped]

    def score_in_full(self, n_flipped: int) -> Tally:
        """Return the clean tally of the whole network with really flipped weights."""
        return self.samples.score_of(self.flipping.candidate(n_flipped), probes=False).clean

    def confirm(self, network: Network, n_flipped: int) -> Scored:  # noqa: ARG002
        """Score the candidate as it was written into ``network``."""
        return self.samples.score_of(network)


def _is_default(name: str, value: object) -> bool:
    known = signature(LocalSamples.of).parameters
    default = known[name].default if name in known else ...
    # An array compares number by number.
    return value is default or (type(value) is int and value == default)


def _checked_probes(probes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    probes = {} if probes is None else probes
    if not isinstance(probes, Mapping):
        raise SettingsError(
            f'expected probes by name, such as probes={{"ASR": (x, y)}}; got a '
            f"{type(probes).__name__}"
        )
    for name in probes:
        if not isinstance(name, str):
            raise SettingsError(f"expected the names of probes to be strings; got {name!r}")
    if "clean" in probes:
        raise SettingsError('"clean" is what the score on data is called; rename that probe')
    return probes
