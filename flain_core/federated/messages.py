"""Questions to holders of auxiliary samples, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Literal

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.network import Array
from flain_core.outputs import Outputs, Reading
from flain_core.proof import Proof
from flain_core.tallies import Scored

__all__ = ["Answer", "ModelState", "Question", "Task"]

Task = Literal["statistics", "proof", "candidates", "in full"]
"""In this order: measure how the samples activate a layer; prove that it may be cut there; score
candidates from the layer on; score networks as a whole."""


@dataclass(frozen=True, eq=False)
class ModelState:
    """The model as it stands, and how one layer of it is being flipped.

    Attributes:
        weights: ``(out, in / groups, *kernel)`` by layer, of the layers in which the model differs
            from the trained one.
        layer: The layer that is searched, or to be measured; empty for none.
        initial: Its initial weight; None where nothing is flipped.
        factor: 2 flips an update, 1 resets it.
        order: ``(m,)`` int64 indices of input neurons; a candidate flips the first few of them.
        window: Relative error of a score that rounding can cause.
    """

    weights: Mapping[str, Array] = field(default_factory=dict)
    layer: str = ""
    initial: Array | None = None
    factor: float = 2.0
    order: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    window: float = 0.0

    @cached_property
    def model_digest(self) -> str:
        """Digest that tells models and layers apart."""
        named = [array for name in sorted(self.weights) for array in (name, self.weights[name])]
        return _digest(self.layer, *named)

    @cached_property
    def digest(self) -> str:
        """Digest that tells states apart, so that a holder can go on where it was."""
        return _digest(
            self.model_digest, str(self.factor), str(self.window), self.initial, self.order
        )


@dataclass(frozen=True, eq=False)
class Question:
    """One question to everyone who holds some of the auxiliary samples.

    Attributes:
        task: The task.
        state: The model to do it with.
        n_flipped: The candidates, by how many neurons of the order they flip, ascending. Empty for
            the model as it stands.
        probes: Whether the probes are wanted as well.
        seed: Chooses the neurons that a proof changes.
        loss: Whether what the samples lost since the trained model is wanted.
        outputs: What a classifier's scores are; None has each holder recognise it.
    """

    task: Task
    state: ModelState
    n_flipped: tuple[int, ...] = ()
    probes: bool = True
    seed: int = 0
    loss: bool = False
    outputs: Outputs | None = None

    @property
    def of_trained(self) -> bool:
        """True if the first score that is asked for is the trained model's."""
        scores = self.task in ("candidates", "in full")
        return scores and not self.state.weights and not any(self.n_flipped[:1])


@dataclass(frozen=True, eq=False)
class Answer:
    """The findings of one holder on its samples; None or empty where nothing was asked.

    Attributes:
        statistics: Activations of the layer's input neurons.
        proof: Whether the layer may be cut there.
        scored: Scores of each candidate, or of the model as it stands.
        reading: How it reads the scores of a classifier, those of the trained model where the
            question is of that.
    """

    statistics: ActivationStatistics | None = None
    proof: Proof | None = None
    scored: tuple[Scored, ...] = ()
    reading: Reading | None = None


def _digest(*parts: str | Array | None) -> str:
    seen = sha256()
    for part in parts:
        seen.update(part.encode() if isinstance(part, str) else np.asarray(part, float).tobytes())
        seen.update(b";")
    return seen.hexdigest()
