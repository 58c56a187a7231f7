"""Answers questions about some of the auxiliary samples, where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.arrays.forms import by_name, fitting
from flain_core.errors import DataError, LayerError, WeightsError
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory.scorer import LocalScorer, Stepper
from flain_core.local_samples import LocalSamples
from flain_core.network import Array, Network
from flain_core.opening import registry
from flain_core.outputs import Outputs
from flain_core.score import Score, accuracy
from flain_core.settings import Measure
from flain_core.tallies import Scored
from flain_core.threads import one_blas_thread, one_thread_for

from .letters import LACKING, Memory, opened, with_memory
from .messages import Answer, ModelState, Question
from .wire import read_question, read_trained, write_answer

__all__ = ["Holder", "answered"]


class Holder:
    """Holds some of the auxiliary samples, and the trained model.

    Every question stands for itself. A holder remembers the layer that it was asked about last, so
    that a search which goes on there needs no second pass, and what the trained model scores; one
    that lost its memory answers alike.

    Args:
        network: The trained model.
        samples: One or more parts. Each gets an answer as if a holder of its own had it, while
            the model is in memory once.

    Example:
        >>> import numpy as np
        >>> from flain_numpy import Dense, Network
        >>> from flain_core.federated.messages import Question, ModelState
        >>> network = Network([Dense("scores", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))])
        >>> holder = Holder(network, LocalSamples.of((np.eye(2, 3), np.array([0, 1]))))
        >>> holder.answer(Question("statistics", ModelState(layer="scores"))).statistics.mean
        array([0.5, 0.5, 0. ])
    """

    def __init__(self, network: Network, *samples: LocalSamples) -> None:
        self._trained = network
        self._samples = samples
        self._start(measures_loss=False, outputs=None)

    def _start(self, *, measures_loss: bool, outputs: Outputs | None) -> None:
        """Forget everything but the trained model and the samples."""
        self._measures_loss, self._outputs = measures_loss, outputs
        measure: Measure = "probability" if measures_loss else "score"
        self._scorers = tuple(
            LocalScorer(replace(each, outputs=outputs) if outputs else each, measure=measure)
            for each in self._samples
        )
        self._losses_from: Literal["", "the cut", "in full"] = ""
        self._studied = ""
        self._network = self._trained
        self._statistics: list[ActivationStatistics] = []
        self._stepping = ""
        self._steppers: tuple[Stepper, ...] = ()

    def answer(self, question: Question) -> Answer:
        """Answer from samples that are here in one part; raise what :meth:`answers` raises."""
        (answer,) = self.answers(question)
        return answer

    def answers(self, question: Question) -> list[Answer]:
        """Answer from each part of the samples that are here.

        Raises:
            LayerError: There is no such layer, or it cannot be used.
            WeightsError: A weight does not fit the model.
            DataError: The samples do not fit it, or the question itself makes no sense.
            ModelError: It cannot be run, or scores differently each time.
        """
        _check_candidates(question)
        if (question.loss, question.outputs) != (self._measures_loss, self._outputs):
            self._start(measures_loss=question.loss, outputs=question.outputs)
        with one_blas_thread():
            if question.task == "in full":
                return self._in_full(question)
            self._study(question.state)
            if question.task == "candidates":
                return self._from_the_layer_on(question)
            if question.task == "statistics":
                return [Answer(statistics=each) for each in self._statistics]
            flipping = _flipping(self._network, question.state)
            seed = question.seed
            return [Answer(proof=each.prove(flipping, seed=seed)) for each in self._scorers]

    def _study(self, state: ModelState) -> None:
        if self._studied == state.model_digest:
            return
        # Forget first, so that two layers are never in memory at once.
        self._studied = self._stepping = ""
        self._steppers = ()
        for each in self._scorers:
            each.batches = ()
        self._network = self._changed(state)
        self._statistics = [each.study(self._network, state.layer)[0] for each in self._scorers]
        self._studied = state.model_digest

    def _changed(self, state: ModelState) -> Network:
        return self._trained.replace(state.weights) if state.weights else self._trained

    def _from_the_layer_on(self, question: Question) -> list[Answer]:
        state, n_flipped = question.state, question.n_flipped
        if not all(each.batches for each in self._scorers):
            raise LayerError(
                f"layer {state.layer!r} runs several times in one pass; ask for candidates in full"
            )
        steppers = self._steppers
        behind = any(n_flipped[0] < stepper.last for stepper in steppers)
        if self._stepping != state.digest or behind:
            flipping = _flipping(self._network, state)
            steppers = tuple(each.stepper(flipping, state.window) for each in self._scorers)
            self._count_losses_at(steppers, state)
        # A stepper that fails on the way is left between two candidates.
        self._stepping = ""
        scored = []
        for stepper in steppers:
            with one_thread_for(stepper.work):
                scored.append(tuple(stepper.advance(n_flipped)))
        self._stepping, self._steppers = state.digest, steppers
        return self._answers_of(scored)

    def _in_full(self, question: Question) -> list[Answer]:
        network = self._changed(question.state)
        networks: Iterable[Network] = (network,)
        if question.n_flipped:
            flipping = _flipping(network, question.state)
            networks = (flipping.candidate(n) for n in question.n_flipped)
        if self._measures_loss and self._losses_from != "in full":
            self._count_losses_in_full()
        # One network in memory at a time.
        by_network = [
            [scorer.score_of(each, probes=question.probes) for scorer in self._scorers]
            for each in networks
        ]
        return self._answers_of(zip(*by_network, strict=True))

    def _answers_of(self, scored: Iterable[tuple[Scored, ...]]) -> list[Answer]:
        return [
            Answer(scored=each, reading=scorer.reading)
            for scorer, each in zip(self._scorers, scored, strict=True)
        ]

    def _count_losses_at(self, steppers: Sequence[Stepper], state: ModelState) -> None:
        """Have losses counted from the trained model, which the cut may be of."""
        if not self._measures_loss or self._losses_from:
            return
        if state.weights:
            self._count_losses_in_full()
            return
        for stepper in steppers:
            with one_thread_for(stepper.work):
                stepper.advance([0])
        self._losses_from = "the cut"

    def _count_losses_in_full(self) -> None:
        """Have losses counted from the trained model, run in full.

        A cut may turn out to be wrong, and then must not say what a model loses that is run in
        full.
        """
        self._losses_from = ""
        for each in self._scorers:
            each.grader.start_anew()
            each.score_of(self._trained, probes=False)
        self._losses_from = "in full"


def answered(
    arrays: Mapping[str, Array],
    model: Any,
    data: Any,
    *,
    score: Score = accuracy,
    batch_size: int | None = None,
    memory: Memory | None = None,
) -> dict[str, Array]:
    """Answer a question that carries the trained model, or what of it the memory does not have.

    A client of a federation has the architecture but not the trained weights, so the first question
    takes these along; and each one does to a client that forgets in between.

    Args:
        arrays: The question. Its arrays are read as numbers; nothing is unpickled.
        model: The architecture, with layers of the names that the asking side knows. Its weights
            do not matter, and it is never changed.
        data: The samples, in any form that ``flain.purify(data=...)`` takes.
        score: Worth of a sample, a function of (scores, y).
        batch_size: Samples per pass; None lets the size of a sample decide.
        memory: What this client kept of earlier questions, by hash; it is brought up to date. None
            for a client that forgets.

    Returns:
        The answer: sums and counts over all the samples, as arrays by name. Or one that asks for
        the whole question, if the memory does not have what the question leaves out.

    Raises:
        FlainError: The question cannot be read, or does not fit the model or the samples.

    Example:
        >>> import numpy as np
        >>> from flain_core.federated.messages import ModelState
        >>> from flain_core.federated.wire import read_answer, write_question, write_trained
        >>> from flain_numpy import Dense, Network
        >>> trained = Network([Dense("scores", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))])
        >>> arrays = write_question(Question("in full", ModelState())) | write_trained(trained)
        >>> untrained = Network([Dense("scores", np.zeros((2, 3)))])
        >>> read_answer(answered(arrays, untrained, (np.eye(2, 3), [0, 1]))).scored[0].clean
        Tally(total=2, count=2, uncertain=0.0)
    """
    whole = opened(arrays, memory)
    if whole is None:
        return with_memory(LACKING, memory)
    question, trained = read_question(whole), read_trained(whole)
    architecture = registry.architecture(model)
    held = registry.arrays_of(architecture)
    named = by_name("the trained model", trained, held)
    network = registry.open_network(
        held | fitting("the trained model", named, held), like=architecture
    )
    holder = Holder(network, LocalSamples.of(data, score=score, batch_size=batch_size))
    return with_memory(write_answer(holder.answer(question)), memory)


def _check_candidates(question: Question) -> None:
    if question.seed < 0:
        raise DataError(f"expected a seed of at least 0; got {question.seed}")
    n_flipped = question.n_flipped
    ascending = all(
        one <= other for one, other in pairwise((0, *n_flipped, question.state.order.size))
    )
    if not ascending or (question.task == "candidates" and not n_flipped):
        raise DataError(
            "expected candidates in ascending order, each of which flips from 0 to "
            f"{question.state.order.size} neurons; got {n_flipped}"
        )


def _flipping(network: Network, state: ModelState) -> FlippingOrder:
    layer = network.layers().get(state.layer)
    if layer is None:
        raise LayerError(f"there is no layer {state.layer!r} that can be purified")
    if state.initial is None or state.initial.shape != layer.weight.shape:
        raise WeightsError(
            f"expected the initial weight of {layer.name!r}, of shape {layer.weight.shape}; got "
            + ("none" if state.initial is None else f"shape {state.initial.shape}")
        )
    if not np.isin(state.order, np.arange(layer.neurons)).all():
        raise DataError(
            f"expected an order of the {layer.neurons} input neurons of {layer.name!r}; it names "
            "others"
        )
    return FlippingOrder(network, layer, state.initial, state.factor, state.order)
