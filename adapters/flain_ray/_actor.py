"""An actor: holds some of the batches, and answers for each of them."""

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
from flain_core.samples import Samples
from flain_core.score import Score

__all__ = ["Actor", "Needed", "Part", "Shard"]


@dataclass(frozen=True, eq=False)
class Part:
    """One batch of the auxiliary samples, with the probes that are measured along with it."""

    clean: Samples
    probes: Mapping[str, Samples]
    batch_size: int


Shard: TypeAlias = Mapping[str, Part]
"""Batches by name."""


@dataclass(frozen=True, eq=False)
class Needed:
    """What an actor needs in order to answer. It comes with every question.

    Attributes:
        packed: Refers to the trained model and the score function, pickled.
        shards: Refer to the shards that the actor is to hold.
        memory_limit: Bytes to spend on keeping cut batches.
    """

    packed: Any
    shards: Sequence[Any]
    memory_limit: int


class Actor:
    """Fetches what it needs once. If it is started anew it does so again, and answers alike."""

    def __init__(self) -> None:
        self._opened: tuple[Network, Holder, Sequence[str]] | None = None

    def scores(self, needed: Needed, x: Batch) -> Array | FlainError:
        """What the trained model scores here."""
        try:
            network, _, _ = self._open(needed)
            return network.predict(x)
        except FlainError as error:
            return error

    def answer(
        self, needed: Needed, state: ModelState, question: Question
    ) -> Mapping[str, Answer] | FlainError:
        """Answers by name of batch. The question comes without its state, which lies apart."""
        try:
            _, holder, names = self._open(needed)
            answers = holder.answers(replace(question, state=state))
        except FlainError as error:
            return error
        return dict(zip(names, answers, strict=True))

    def _open(self, needed: Needed) -> tuple[Network, Holder, Sequence[str]]:
        if self._opened is None:
            network, score = _unpacked(ray.get(needed.packed))
            parts = {name: part for shard in ray.get(needed.shards) for name, part in shard.items()}
            each = needed.memory_limit // len(parts)
            examinations = (
                LocalSamples(part.clean, part.probes, score, part.batch_size, each)
                for part in parts.values()
            )
            self._opened = network, Holder(network, *examinations), tuple(parts)
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
