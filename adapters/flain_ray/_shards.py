"""Samples cut into shards, for actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from flain_core.errors import SettingsError
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.local_samples import LocalSamples
from flain_core.network import Network
from flain_core.options import SampleOptions
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.samples import Samples
from flain_core.score import accuracy
from flain_core.settings import Settings, whole_number

from ._actors import Actor, ActorPool, Shard

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OPTIONS = {"num_cpus": 1, "max_restarts": 3, "max_task_retries": -1}


class Shards:
    """Auxiliary samples of which every actor of a Ray cluster holds a part.

    Takes part in a ``with`` statement, and goes into :func:`flain_core.purify` as ``data``. It uses
    the Ray that runs; if the process is not connected to one, it calls ``ray.init()``, and
    ``ray.shutdown()`` at the end.

    Neurons are flipped, and no samples held back. The purified model is that of ``purify(...,
    batch_size=shards.batch_size, settings=Settings(flip="neurons", held_back=0))`` without Ray, to
    the bit if both compute with one thread: Ray gives an actor as many threads as it has CPUs.

    Args:
        data: The samples, in any form that :func:`flain_core.purify` takes.
        actors: Number of actors that hold them.
        shards: Number of parts to cut the samples into, at least one per actor; None for one each.
        lookahead: Number of candidates to ask about at once. More of them save messages, and waste
            what lies beyond the end of the search.
        timeout: Seconds that an answer may take, the start of an actor included; None for any time.
        options: How to start an actor, for ``options()`` of Ray: ``{"num_cpus": 4}``,
            ``{"num_gpus": 1}``, ``{"runtime_env": ...}``. An actor has one CPU and is started again
            up to three times (``max_restarts``) if it is lost, and asked again.
        sample_options: ``probes``, ``score``, ``batch_size`` and ``memory_limit``, as
            :func:`flain_core.purify` has them. Without a ``batch_size`` it is what a search without
            Ray would take, but no more than leave every shard a batch. The ``memory_limit`` is that
            of each actor, shared equally among its batches.

    Raises:
        DataError: Samples cannot be used.
        SettingsError: An option is out of range, or there are more shards than batches.
        TypeError: There is no such option.

    Example:
        >>> x, y = np.random.default_rng(0).normal(size=(100, 4)), np.arange(100) % 2
        >>> shards = Shards((x, y), actors=2, shards=7)
        >>> shards.batch_size
        14
    """

    def __init__(
        self,
        data: Any,
        *,
        actors: int,
        shards: int | None = None,
        lookahead: int = 16,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        **sample_options: Unpack[SampleOptions],
    ) -> None:
        if unknown := sample_options.keys() - SampleOptions.__annotations__:
            raise TypeError(
                f"Shards has no option {', '.join(sorted(unknown))}; those of samples are "
                f"{', '.join(SampleOptions.__annotations__)}"
            )
        samples = LocalSamples.of(data, **sample_options)
        self._actors = whole_number(actors, "actors", least=1)
        self._shards = whole_number(
            self._actors if shards is None else shards,
            "shards, at least one per actor,",
            least=self._actors,
        )
        self._lookahead = whole_number(lookahead, "lookahead, in candidates,", least=1)
        self._timeout = _seconds(timeout)
        if options is not None and not isinstance(options, Mapping):
            raise SettingsError(
                f'expected options of an actor by name, such as {{"num_cpus": 4}}; got {options!r}'
            )
        self._options = _OPTIONS | dict(options or {})
        self._start = _starter(self._options)
        self._pool: ActorPool | None = None
        self._running = ExitStack()
        count = len(samples.clean)
        usual = min(samples.clean.usual_batch, max(count // self._shards, 1))
        self._batch_size = samples.batch_size or usual
        batches = -(-count // self.batch_size)
        if batches < self._shards:
            raise SettingsError(
                f"expected at most {batches} shards, as {count} samples make {batches} batches of "
                f"{self.batch_size}; got {self._shards}. Take fewer shards, or a smaller batch_size"
            )
        self._samples = replace(samples, batch_size=self.batch_size)

    @property
    def batch_size(self) -> int:
        """Samples per pass."""
        return self._batch_size

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples; a model is sent to the actors to be scored."""
        return replace(self._samples.facts, local=False)

    def scorer(self, network: Network, settings: Settings, seed: int) -> Scorer:
        """Send the trained model to the actors, and return what asks them about it.

        Raises SettingsError outside of the ``with`` statement, and ModelError if the model cannot
        be sent or does not arrive as it was.
        """
        if self._pool is None:
            raise SettingsError(
                "expected shards inside a with statement, which starts and stops the actors: "
                "with flain_ray.Shards(...) as shards: flain_core.purify(..., data=shards)"
            )
        probes = tuple(self._samples.probes)
        samples = CoordinatedSamples(self._pool, probes=probes, facts=self.facts)
        return samples.scorer(network, settings, seed)

    def __enter__(self) -> Shards:
        if self._pool is not None:
            raise SettingsError(
                "the shards are in a with statement already; use that one, or cut the samples "
                "again: another Shards"
            )
        with ExitStack() as stack:
            if not ray.is_initialized():
                ray.init()
                stack.callback(ray.shutdown)
            self._check_room()
            shards = [
                ray.put(shard) for shard in _cut(self._samples, self._shards, self.batch_size)
            ]
            self._pool = ActorPool(
                self._samples,
                shards=[shards[first :: self._actors] for first in range(self._actors)],
                start=self._start,
                timeout=self._timeout,
                lookahead=self._lookahead,
            )
            stack.callback(self._pool.close)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool = None
        self._running.close()

    def _check_room(self) -> None:
        """Raise :class:`SettingsError` where actors would wait for ever."""
        there = ray.cluster_resources().get("CPU", 0)
        needed = self._actors * (self._options["num_cpus"] or 0)
        if needed > there and self._timeout is None:
            raise SettingsError(
                f"{self._actors} actors need {needed:g} CPUs, and the Ray cluster has {there:g}; "
                'take fewer actors, or options={"num_cpus": ...} below 1; or, where the cluster '
                "grows by itself, a timeout to wait for it"
            )


def _cut(samples: LocalSamples, shards: int, batch_size: int) -> Iterator[Shard]:
    """Yield the batches, with names in their order, in shards of about as many."""
    batches = list(samples.clean.batches(batch_size))
    probes = {
        name: _spread(probe, len(batches), batch_size) for name, probe in samples.probes.items()
    }
    digits = len(str(len(batches)))
    names = [f"batch {number:0{digits}}" for number in range(len(batches))]
    for which in np.array_split(np.arange(len(batches)), shards):
        yield {
            names[number]: replace(
                samples,
                clean=batches[number],
                probes={name: spread[number] for name, spread in probes.items() if spread[number]},
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


def _starter(options: Mapping[str, Any]) -> Callable[[], Any]:
    try:
        start: Callable[[], Any] = ray.remote(Actor).options(**options).remote
    except (TypeError, ValueError) as error:
        raise SettingsError(f"expected options that Ray starts an actor with; {error}") from error
    return start


def _seconds(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise SettingsError(f"expected a timeout in seconds above 0, or None; got {timeout!r}")
    return float(timeout)
