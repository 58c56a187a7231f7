"""The auxiliary samples in memory, and what models score on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from .activation import ActivationStatistics
from .auxiliary import Samples
from .cut_model import CutModel, cut_model
from .errors import SettingsError
from .examiner import AuxiliaryData, Known
from .flipping_order import FlippingOrder
from .in_full import InFull
from .network import Batch, Network
from .piece import Piece, bytes_kept
from .proof import Proof, check_deterministic, prove
from .score import Score, Scored, Tally, accuracy, tally
from .settings import whole_number
from .threads import one_thread_for

__all__ = ["MEMORY_LIMIT", "Examination", "LocalStudy", "auxiliary_data"]

MEMORY_LIMIT = 2 * 2**30
"""Bytes that may be spent on keeping cut batches, unless told otherwise."""

_SAMPLES_FOR_PROOF = 32
_RUNS_SEVERAL_TIMES = Proof(False, "the layer runs several times in one pass")


@dataclass(frozen=True, eq=False)
class Examination:
    """What every candidate is examined on, in batches.

    Attributes:
        clean: The auxiliary samples, which steer the search.
        probes: Further samples, which are only reported.
        score: What a sample is worth.
        batch_size: Samples per batch; None lets the size of a sample decide.
        memory_limit: Bytes that may be spent on keeping cut batches.

    It implements :class:`~flain_core.examiner.AuxiliaryData` and
    :class:`~flain_core.examiner.Examiner`.
    """

    clean: Samples
    probes: Mapping[str, Samples] = field(default_factory=dict)
    score: Score = accuracy
    batch_size: int | None = None
    memory_limit: int = MEMORY_LIMIT

    @classmethod
    def on(
        cls,
        data: Any,
        *,
        probes: Mapping[str, Any] | None = None,
        score: Score = accuracy,
        batch_size: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> Examination:
        """Read the samples, in any form that :meth:`Samples.of` takes.

        Raises:
            DataError: Samples cannot be used.
            SettingsError: An option is out of range or of the wrong type.
        """
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size, in samples,", least=1)
        memory_limit = whole_number(memory_limit, "memory_limit, in bytes,", least=0)
        if not callable(score):
            raise SettingsError(
                f"expected score to be a function of (scores, y); got {score!r}. Leave it out for "
                "top-1 accuracy"
            )
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
        classify = score is accuracy
        return cls(
            clean=Samples.of(data, classify=classify),
            probes={
                name: Samples.of(probe, name=f"probe {name!r}", classify=classify)
                for name, probe in probes.items()
            },
            score=score,
            batch_size=batch_size,
            memory_limit=memory_limit,
        )

    def examiner(self, network: Network) -> Examination:  # noqa: ARG002
        """Itself: it examines any network."""
        return self

    @property
    def known(self) -> Known:
        """What is known of the samples."""
        if self.score is not accuracy:
            return Known(classify=False)
        return Known(classes=int(np.unique(self.clean.y).size), one_hot=self.clean.one_hot)

    def of(self, network: Network) -> Scored:
        """Run a network on everything."""
        probes = {name: self._total(network, probe) for name, probe in self.probes.items()}
        return Scored(self.clean_tally(network), probes)

    def clean_tally(self, network: Network) -> Tally:
        """Run a network on the auxiliary samples."""
        return self._total(network, self.clean)

    def study(self, network: Network, layer: str) -> LocalStudy:
        """Run everything once up to a layer, keeping as many cuts as the memory limit allows."""
        pieces: list[Piece] = []
        statistics = ActivationStatistics()
        once = True
        left = self.memory_limit
        for probe, samples in ((None, self.clean), *self.probes.items()):
            for batch in samples.batches(self.batch_size):
                if probe is not None and not (once and left > 0):
                    pieces.append(Piece(probe, batch, None))
                    continue
                cut = network.cut(layer, batch.x)
                if probe is None:
                    statistics = statistics.update(cut.inputs)
                once = once and cut.calls == 1
                if once:
                    left -= bytes_kept(cut)
                pieces.append(Piece(probe, batch, cut if once and left > 0 else None))
        return LocalStudy(self, statistics, tuple(pieces) if once else ())

    def _total(self, network: Network, samples: Samples) -> Tally:
        batches = samples.batches(self.batch_size)
        tallies = (tally(self.score, network.predict(batch.x), batch.y) for batch in batches)
        return reduce(add, tallies)


def auxiliary_data(
    data: Any,
    *,
    probes: Mapping[str, Any] | None = None,
    score: Score = accuracy,
    batch_size: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> AuxiliaryData:
    """What a caller gave as data, read and checked.

    Args:
        data: As :meth:`Examination.on` takes it; or someone who has the samples elsewhere, and then
            also the probes, the score and the size of the batches.
        probes: Further samples by name.
        score: What a sample is worth.
        batch_size: Samples per batch.
        memory_limit: Bytes that may be spent on keeping cut batches.

    Raises:
        DataError: Samples cannot be used.
        SettingsError: An option is out of range, of the wrong type, or belongs to whoever has the
            samples.
    """
    if not isinstance(data, AuxiliaryData):
        return Examination.on(
            data, probes=probes, score=score, batch_size=batch_size, memory_limit=memory_limit
        )
    if probes is not None or score is not accuracy or batch_size is not None:
        raise SettingsError(
            f"give probes, score and batch_size to the {type(data).__name__}, which holds the "
            "samples, and not to purify"
        )
    return data


@dataclass(frozen=True, eq=False)
class LocalStudy:
    """Samples that were run once up to a layer.

    Attributes:
        examination: Whose samples they are.
        statistics: How the auxiliary samples activate the layer's input neurons.
        pieces: All batches; none if the layer does not run exactly once.
    """

    examination: Examination
    statistics: ActivationStatistics
    pieces: tuple[Piece, ...]

    def prove(self, flipping: FlippingOrder, *, seed: int) -> Proof:
        """Compare the cut with the whole network on a few of the auxiliary samples."""
        few: Batch = self.examination.clean[:_SAMPLES_FOR_PROOF].x
        check_deterministic(flipping.network, few, flipping.layer.epsilon)
        return prove(flipping, few, seed=seed) if self.pieces else _RUNS_SEVERAL_TIMES

    @contextmanager
    def incremental(self, flipping: FlippingOrder, *, window: float) -> Iterator[CutAndExact]:
        """Candidates from the layer on."""
        model = self.cut_model(flipping, window=window)
        with one_thread_for(model.work):
            yield CutAndExact(model, self.in_full(flipping))

    def in_full(self, flipping: FlippingOrder) -> InFull:
        """Candidates run in full."""
        return InFull(flipping, self.examination)

    def cut_model(self, flipping: FlippingOrder, *, window: float) -> CutModel:
        """The cut model by itself."""
        return cut_model(self.pieces, flipping, self.examination.score, window)


class CutAndExact:
    """Scores candidates at the cut, and in full where it has to be exact."""

    def __init__(self, cut_model: CutModel, in_full: InFull) -> None:
        self.lookahead = cut_model.lookahead
        self.advance = cut_model.advance
        self.exactly = in_full.exactly
        self.confirm = in_full.confirm
