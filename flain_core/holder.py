"""Answers questions about some of the auxiliary samples, where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .cut_model import CutModel
from .errors import DataError, LayerError, WeightsError
from .examination import Examination, LocalStudy
from .flipping_order import FlippingOrder
from .network import Network
from .question import Answer, Question, Setting
from .score import Scored
from .threads import one_blas_thread, one_thread_for

__all__ = ["Holder"]


@dataclass(frozen=True, eq=False)
class _Studied:
    digest: str
    network: Network
    studies: tuple[LocalStudy, ...]


class Holder:
    """Holds some of the auxiliary samples, and the trained model.

    Every question stands for itself. A holder remembers the layer that it was asked about last, so
    that a search which goes on there needs no second pass; one that lost its memory answers alike.

    Args:
        network: The trained model.
        parts: The samples. Each part is answered for as if a holder of its own had it, while the
            model is in memory once.

    Example:
        >>> import numpy as np
        >>> from flain_numpy import Dense, Network
        >>> from flain_core.question import Question, Setting
        >>> network = Network([Dense("scores", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))])
        >>> holder = Holder(network, Examination.on((np.eye(2, 3), np.array([0, 1]))))
        >>> holder.answer(Question("statistics", Setting(layer="scores"))).statistics.mean
        array([0.5, 0.5, 0. ])
    """

    def __init__(self, network: Network, *parts: Examination) -> None:
        self._network = network
        self._parts = parts
        self._studied: _Studied | None = None
        self._cut_models: tuple[str, tuple[CutModel, ...]] | None = None

    def answer(self, question: Question) -> Answer:
        """Do what is asked, on the samples that are here in one part.

        Raises what :meth:`answers` raises.
        """
        (answer,) = self.answers(question)
        return answer

    def answers(self, question: Question) -> list[Answer]:
        """Do what is asked, on each part of the samples that are here.

        Raises:
            LayerError: There is no such layer, or it cannot be used.
            WeightsError: A weight does not fit the model.
            DataError: The samples do not fit it, or the question itself makes no sense.
            ModelError: It cannot be run, or scores differently each time.
        """
        _check_ends(question)
        with one_blas_thread():
            if question.task == "in full":
                return self._in_full(question)
            if question.task == "candidates":
                return self._from_the_layer_on(question)
            studied = self._study(question.setting)
            if question.task == "statistics":
                return [Answer(statistics=study.statistics) for study in studied.studies]
            flipping = _flipping(studied.network, question.setting)
            seed = question.seed
            return [Answer(proof=study.prove(flipping, seed=seed)) for study in studied.studies]

    def _study(self, setting: Setting) -> _Studied:
        if self._studied is None or self._studied.digest != setting.model_digest:
            # First of all, so that two studies are never in memory at once.
            self._studied = self._cut_models = None
            network = self._network.replace(setting.weights) if setting.weights else self._network
            studies = tuple(part.study(network, setting.layer) for part in self._parts)
            self._studied = _Studied(setting.model_digest, network, studies)
        return self._studied

    def _from_the_layer_on(self, question: Question) -> list[Answer]:
        setting = question.setting
        studied = self._study(setting)
        known, models = self._cut_models or ("", ())
        if known != setting.digest or any(question.ends[0] < model.end for model in models):
            flipping = _flipping(studied.network, setting)
            models = tuple(
                study.cut_model(flipping, window=setting.window) for study in studied.studies
            )
        # One that fails on the way is left between two candidates.
        self._cut_models = None
        answers = []
        for model in models:
            with one_thread_for(model.work):
                answers.append(Answer(scored=tuple(model.advance(question.ends))))
        self._cut_models = setting.digest, models
        return answers

    def _in_full(self, question: Question) -> list[Answer]:
        setting, parts = question.setting, self._parts
        network = self._network.replace(setting.weights) if setting.weights else self._network
        if question.ends:
            flipping = _flipping(network, setting)
            networks: Iterable[Network] = (flipping.candidate(end) for end in question.ends)
        else:
            networks = (network,)
        # One network in memory at a time.
        by_network = [
            [part.of(each) if question.probes else Scored(part.clean_tally(each)) for part in parts]
            for each in networks
        ]
        return [Answer(scored=scored) for scored in zip(*by_network, strict=True)]


def _check_ends(question: Question) -> None:
    ends = question.ends
    ascending = all(
        one <= other for one, other in pairwise((0, *ends, question.setting.order.size))
    )
    if not ascending or (question.task == "candidates" and not ends):
        raise DataError(
            "expected candidates in ascending order, each of which flips from 0 to "
            f"{question.setting.order.size} neurons; got {ends}"
        )


def _flipping(network: Network, setting: Setting) -> FlippingOrder:
    layer = network.layers().get(setting.layer)
    if layer is None:
        raise LayerError(f"there is no layer {setting.layer!r} that can be purified")
    if setting.initial is None or setting.initial.shape != layer.weight.shape:
        raise WeightsError(
            f"expected the initial weight of {layer.name!r}, of shape {layer.weight.shape}; got "
            + ("none" if setting.initial is None else f"shape {setting.initial.shape}")
        )
    if not np.isin(setting.order, np.arange(layer.neurons)).all():
        raise DataError(
            f"expected an order of the {layer.neurons} input neurons of {layer.name!r}; it names "
            "others"
        )
    return FlippingOrder(network, layer, setting.initial, setting.factor, setting.order)
