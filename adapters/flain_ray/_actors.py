"""The actors: each holds some of the batches and answers for them, and all are asked at once."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import ray
from ray import cloudpickle

from flain_core.errors import DataError, FlainError, ModelError
from flain_core.federated.holder import Holder
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.local_samples import LocalSamples
from flain_core.network import Array, Batch, Network
from flain_core.score import Score

from ._cutting import Plan
from ._shipping import LACKS_FLAIN, failed, lacks_flain

# A share of the greatest score, far above what another machine's rounding does, even in half
# precision.
_DIFFERENCE_ALLOWED = 1e-2

Needed: TypeAlias = Sequence[Any]
"""References to the trained model and the score function, pickled, and to an actor's shards. They
come with every question, for an actor that was started again."""


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
            packed, *shards = ray.get(needed)
            network, score = _unpacked(packed)
            batches: dict[str, LocalSamples] = {}
            for shard in shards:
                batches |= shard
            samples = (
                replace(each, score=score, memory_limit=each.memory_limit // len(batches))
                for each in batches.values()
            )
            self._opened = network, Holder(network, *samples), tuple(batches)
        return self._opened


@dataclass(eq=False)
class ActorPool:
    """Implements :class:`~flain_core.federated.coordinator.Holders` over the actors.

    ``shards`` has references to the shards, by the actor that is to hold them; ``timeout`` is in
    seconds, None for any time.
    """

    plan: Plan
    shards: Sequence[Sequence[Any]]
    start: Callable[[], Any]
    timeout: float | None
    lookahead: int
    actors: list[tuple[Any, Needed]] = field(default_factory=list, init=False)
    _state: tuple[ModelState, Any] | None = field(default=None, init=False)

    def open(self, network: Network) -> None:
        """Start the actors with this model; raise ModelError if it does not arrive as it was."""
        self.close()
        packed = ray.put(_packed(network, self.plan.score))
        for shards in self.shards:
            self.actors.append((self.start(), [packed, *shards]))
        few = self.plan.few
        asked = [actor.scores.remote(needed, few) for actor, needed in self.actors]
        here = network.predict(few)
        for there in self._all(asked):
            _check_same(here, there)

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Return everyone's answers by name of batch; raise the first error that an actor met."""
        state = question.state
        # A search asks many questions with one state.
        if self._state is None or self._state[0] is not state:
            # The digests travel along, so that no actor has to find them for every question.
            _ = state.digest
            self._state = state, ray.put(state)
        rest = replace(question, state=ModelState())
        asked = [actor.answer.remote(needed, self._state[1], rest) for actor, needed in self.actors]
        return {name: answer for each in self._all(asked) for name, answer in each.items()}

    def close(self) -> None:
        """Stop the actors, whatever they are doing."""
        self._state = None
        while self.actors:
            actor, _ = self.actors.pop()
            # Where Ray was shut down, killing an actor would start it again.
            if ray.is_initialized():
                ray.kill(actor)

    def _all(self, asked: Sequence[Any]) -> list[Any]:
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        answers = []
        for number, each in enumerate(asked):
            try:
                answers.append(self._one(number, each, deadline))
            # Later, since Ray complains of errors that nobody fetched.
            except Exception as error:  # noqa: PERF203
                answers.append(error)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _one(self, number: int, asked: Any, deadline: float | None) -> Any:
        who = f"actor {number + 1} of {len(self.actors)}"
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return ray.get(asked, timeout=left)
        except ray.exceptions.GetTimeoutError as error:
            raise DataError(
                f"{who} did not answer within {self.timeout} s; give Shards a longer timeout, or "
                "find out whether the cluster has room for all actors"
            ) from error
        except ray.exceptions.RayTaskError as error:
            # A model or a score function of the user's own raised it, as it does without Ray.
            if not isinstance(error.cause, ray.exceptions.RayError):
                raise error.cause from error
            raise failed(f"{who} failed", error.cause) from error
        except ray.exceptions.RayError as error:
            if lacks_flain(error):
                raise ModelError(LACKS_FLAIN) from error
            what = f"{who} is lost, and the samples it holds with it"
            raise failed(what, error) from error


def _packed(network: Network, score: Score) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps((network, score))
    # A class may do anything when it is pickled.
    except Exception as error:
        raise ModelError(
            f"cannot send the {type(network).__name__} or the score function to the actors: they "
            f"cannot be pickled ({error!r}); remove open files, locks and the like"
        ) from error
    return packed


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


def _check_same(here: Array, there: Array) -> None:
    if here.shape == there.shape:
        allowed = _DIFFERENCE_ALLOWED * float(np.abs(here).max())
        if np.allclose(here, there, rtol=0, atol=allowed, equal_nan=True):
            return
    raise ModelError(
        "the model scores the same samples differently on an actor than here; is the same version "
        "of its code installed on every machine, and does it score alike each time?"
    )
