"""Samples cut into shards, for actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ray

from flain_core.errors import SettingsError
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.local_samples import LocalSamples
from flain_core.network import Network
from flain_core.options import SampleOptions
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.settings import Settings, whole_number

from ._actors import Actor, ActorPool
from ._cutting import Plan, cut
from ._datasets import cut_there, is_dataset

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
        data: The samples, in any form that :func:`flain_core.purify` takes; or a
            ``ray.data.Dataset`` with a column of labels, which a worker reads and cuts, so that its
            samples never come here. A probe may be one as well then.
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
        >>> import numpy as np
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
        self._samples: LocalSamples | None = None
        self._there: list[Any] = []
        if is_dataset(data):
            self._plan, self._there = cut_there(data, self._shards, sample_options)
        else:
            self._samples = LocalSamples.of(data, **sample_options)
            self._plan = Plan.of(self._samples, self._shards)

    @property
    def batch_size(self) -> int:
        """Samples per pass."""
        return self._plan.batch_size

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples; a model is sent to the actors to be scored."""
        return self._plan.facts

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
        samples = CoordinatedSamples(self._pool, probes=self._plan.probes, facts=self.facts)
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
            shards = self._there
            if self._samples is not None:
                shards = [ray.put(shard) for shard in cut(self._samples, self._plan)]
            self._pool = ActorPool(
                self._plan,
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
