"""An actor, which holds some of the batches and answers for each of them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import ray

from flain_core.errors import FlainError, ModelError
from flain_core.federated.holder import Holder
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.local_samples import LocalSamples
from flain_core.network import Array, Batch, Network
from flain_core.score import Score

Shard: TypeAlias = Mapping[str, LocalSamples]
"""Batches by name, each with the probes that are measured along with it."""


@dataclass(frozen=True, eq=False)
class Needed:
    """References to what an actor needs in order to answer; they come with every question.

    Attributes:
        packed: Reference to the trained model and the score function, pickled.
        shards: References to the shards that the actor is to hold.
    """

    packed: Any
    shards: Sequence[Any]


class Actor:
    """Holder of some shards. If it is lost, its successor fetches the same, and answers alike."""

    def __init__(self) -> None:
        self._opened: tuple[Network, Holder, Sequence[str]] | None = None

    def scores(self, needed: Needed, x: Batch) -> Array | FlainError:
        """Run the trained model on a few samples."""
        try:
            network, _, _ = self._open(needed)
            return network.predict(x)
        except FlainError as error:
            return error

    def answer(
        self, needed: Needed, state: ModelState, question: Question
    ) -> Mapping[str, Answer] | FlainError:
        """Answer by name of batch. The question comes without its state, which lies apart."""
        try:
            _, holder, names = self._open(needed)
            answers = holder.answers(replace(question, state=state))
        except FlainError as error:
            return error
        return dict(zip(names, answers, strict=True))

    def _open(self, needed: Needed) -> tuple[Network, Holder, Sequence[str]]:
        if self._opened is None:
            network, score = _unpacked(ray.get(needed.packed))
            batches: dict[str, LocalSamples] = {}
            for shard in ray.get(needed.shards):
                batches |= shard
            samples = (
                replace(each, score=score, memory_limit=each.memory_limit // len(batches))
                for each in batches.values()
            )
            self._opened = network, Holder(network, *samples), tuple(batches)
        return self._opened


def _unpacked(packed: bytes) -> tuple[Network, Score]:
    try:
        # Ray's own way of sending things to its actors.
        unpacked: tuple[Network, Score] = pickle.loads(packed)  # noqa: S301
    except FlainError:
        raise
    # Whatever a class does when it is unpickled, or its module when it is imported.
    except Exception as error:
        raise ModelError(
            f"the model or the score function cannot be unpickled by an actor: {error!r}; what it "
            "is made of has to be there as well: modules of your own through runtime_env in "
            "ray.init (working_dir, py_modules), a GPU through options={'num_gpus': 1}"
        ) from error
    return unpacked
