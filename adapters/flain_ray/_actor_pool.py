"""Asks all actors at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import ray
from ray import cloudpickle

from flain_core.errors import DataError, FlainError, ModelError
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.local_samples import LocalSamples
from flain_core.network import Array, Network
from flain_core.score import Score

from ._actor import Needed

# A share of the greatest score, far above what another machine's rounding does, even in half
# precision.
_DIFFERENCE_ALLOWED = 1e-2
_SAMPLES_TO_COMPARE = 8
_LONGEST_QUOTE = 300


@dataclass(eq=False)
class ActorPool:
    """The actors that hold the shards of one set of samples.

    It implements :class:`~flain_core.federated.coordinator.Holders`.

    Attributes:
        samples: The samples.
        shards: References to the shards, by the actor that is to hold them.
        start: Starts an actor.
        timeout: Seconds that an answer may take; None for any time.
        lookahead: Number of candidates to ask about at once.
    """

    samples: LocalSamples
    shards: Sequence[Sequence[Any]]
    start: Callable[[], Any]
    timeout: float | None
    lookahead: int
    actors: list[tuple[Any, Needed]] = field(default_factory=list, init=False)
    _state: tuple[ModelState, Any] | None = field(default=None, init=False)

    def open(self, network: Network) -> None:
        """Start the actors with this model.

        Raises:
            ModelError: It cannot be sent, or is another one where it arrives.
        """
        self.close()
        packed = ray.put(_packed(network, self.samples.score))
        for shards in self.shards:
            self.actors.append((self.start(), Needed(packed, shards)))
        few = self.samples.clean[:_SAMPLES_TO_COMPARE].x
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
            raise _failed(f"{who} failed", error.cause) from error
        except ray.exceptions.RayError as error:
            what = f"{who} is lost, and the samples it holds with it"
            raise _failed(what, error) from error


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


def _check_same(here: Array, there: Array) -> None:
    if here.shape == there.shape:
        allowed = _DIFFERENCE_ALLOWED * float(np.abs(here).max())
        if np.allclose(here, there, rtol=0, atol=allowed, equal_nan=True):
            return
    raise ModelError(
        "the model scores the same samples differently on an actor than here; is the same version "
        "of its code installed on every machine, and does it score alike each time?"
    )


def _failed(what: str, error: Exception) -> DataError:
    told = " ".join(str(error).split())[:_LONGEST_QUOTE]
    return DataError(f"{what}; nothing was purified. Ray says: {told}")
