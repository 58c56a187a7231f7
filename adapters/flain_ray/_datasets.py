"""Cuts a ``ray.data.Dataset`` into shards on a worker, so that no sample passes through here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from flain_core.errors import FlainError, ModelError
from flain_core.local_samples import LocalSamples
from flain_core.network import Array
from flain_core.score import accuracy

from ._cutting import Plan, cut
from ._shipping import LACKS_FLAIN, failed, lacks_flain

_ROWS_AT_ONCE = 64


def is_dataset(data: object) -> bool:
    """Return whether it is a data set of Ray, without importing what only those need."""
    kind = getattr(sys.modules.get("ray.data"), "Dataset", None)
    return kind is not None and isinstance(data, kind)


def cut_there(data: Any, shards: int, options: Mapping[str, Any]) -> tuple[Plan, list[Any]]:
    """Have a worker read and cut samples.

    Args:
        data: A data set of Ray.
        shards: Number of shards.
        options: What :meth:`LocalSamples.of` takes besides; probes may be data sets as well.

    Returns:
        The plan, and references to the shards, which lie in the object store.

    Raises:
        FlainError: The samples cannot be used; the worker is lost.
    """
    score = options.get("score", accuracy)
    # A function of the caller's travels with the model. Here it only matters that it is one.
    sent = dict(options) | {"score": score if score is accuracy else _of_the_caller}
    try:
        # Ray's own tasks read for this one, so it must not take a CPU from them.
        read = ray.remote(_read).options(num_cpus=0, num_returns="streaming", max_retries=0)
        given: Any = read.remote(data, shards, sent)
        first, *parts = given
        plan: Any = ray.get(first)
        ended: Any = ray.get(parts.pop()) if parts else plan
    except RayError as error:
        if lacks_flain(error):
            raise ModelError(LACKS_FLAIN) from error
        raise failed("the worker that reads the data set failed", error) from error
    if ended is not None:
        raise ended
    return replace(plan, score=score), parts


def _read(data: Any, shards: int, options: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the plan, the shards, and None; or an error at the end."""
    try:
        probes = options.get("probes")
        if isinstance(probes, Mapping):
            options = {**options, "probes": {name: _opened(each) for name, each in probes.items()}}
        samples = LocalSamples.of(_opened(data), **options)
        plan = Plan.of(samples, shards)
        yield plan
        yield from cut(samples, plan)
        yield None
    except FlainError as error:
        yield error


def _of_the_caller(scores: Array, y: Array) -> Array:
    """Stand in for a score function, and is never called."""
    raise NotImplementedError


class Dataset:
    """A data set of Ray that is read in the same order in each pass, batch by batch."""

    def __init__(self, data: Any) -> None:
        self._data = data
        data.context.execution_options.preserve_order = True

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        batches: Iterator[Mapping[str, Array]] = iter(
            self._data.iter_batches(batch_size=_ROWS_AT_ONCE, batch_format="numpy")
        )
        return batches


def _opened(data: Any) -> Any:
    return Dataset(data) if is_dataset(data) else data
