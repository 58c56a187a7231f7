"""Cuts samples into shards, and plans how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from flain_core.auxiliary.samples import Samples
from flain_core.errors import SettingsError
from flain_core.local_samples import LocalSamples
from flain_core.network import Batch
from flain_core.sample_source import SampleFacts
from flain_core.score import Score, accuracy

_SAMPLES_TO_COMPARE = 8

Shard: TypeAlias = Mapping[str, LocalSamples]
"""Batches by name, each with the probes that are measured along with it."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the process that asks knows of the samples.

    Attributes:
        facts: Facts about all samples.
        probes: Names of the probes.
        few: The inputs of a few samples, which a model scores alike wherever it is.
        score: Worth of a sample.
        shards: Number of shards.
        batch_size: Samples per batch.
    """

    facts: SampleFacts
    probes: tuple[str, ...]
    few: Batch
    score: Score
    shards: int
    batch_size: int

    @classmethod
    def of(cls, samples: LocalSamples, shards: int) -> Plan:
        """Plan shards of about as many batches.

        Raises:
            SettingsError: There are more shards than batches.
        """
        count = len(samples.clean)
        usual = min(samples.clean.usual_batch, max(count // shards, 1))
        batch_size = samples.batch_size or usual
        batches = -(-count // batch_size)
        if batches < shards:
            raise SettingsError(
                f"expected at most {batches} shards, as {count} samples make {batches} batches of "
                f"{batch_size}; got {shards}. Take fewer shards, or a smaller batch_size"
            )
        return cls(
            facts=replace(samples.facts, local=False),
            probes=tuple(samples.probes),
            few=samples.clean[:_SAMPLES_TO_COMPARE].x,
            score=samples.score,
            shards=shards,
            batch_size=batch_size,
        )


def cut(samples: LocalSamples, plan: Plan) -> Iterator[Shard]:
    """Yield the batches, with names in their order, in shards of about as many."""
    size = plan.batch_size
    batches = list(samples.clean.batches(size))
    probes = {name: _spread(probe, len(batches), size) for name, probe in samples.probes.items()}
    digits = len(str(len(batches)))
    names = [f"batch {number:0{digits}}" for number in range(len(batches))]
    for which in np.array_split(np.arange(len(batches)), plan.shards):
        yield {
            names[number]: replace(
                samples,
                clean=batches[number],
                probes={name: spread[number] for name, spread in probes.items() if spread[number]},
                batch_size=size,
                # The caller's travels with the model, pickled where a failure is explained.
                score=accuracy,
            )
            for number in which
        }


def _spread(samples: Samples, parts: int, batch_size: int) -> list[Samples]:
    """Cut samples into so many consecutive parts where their batches end; some may be empty."""
    batches = -(-len(samples) // batch_size)
    each = [len(which) * batch_size for which in np.array_split(np.arange(batches), parts)]
    ends = np.cumsum(each)
    return [samples[end - size : end] for end, size in zip(ends, each, strict=True)]
