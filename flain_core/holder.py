"""Answers questions about a part of the auxiliary samples, where that part lies."""

from __future__ import annotations

from dataclasses import dataclass

from .cut_model import CutModel
from .errors import WeightsError
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
    study: LocalStudy


class Holder:
    """Holds some of the auxiliary samples, and the trained model.

    Every question stands for itself. A holder remembers the layer that it was asked about last, so
    that a search which goes on there needs no second pass; one that lost its memory answers alike.

    Args:
        network: The trained model.
        examination: The samples.

    Example:
        >>> import numpy as np
        >>> from flain_numpy import Dense, Network
        >>> from flain_core.question import Question, Setting
        >>> network = Network([Dense("scores", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))])
        >>> holder = Holder(network, Examination.on((np.eye(2, 3), np.array([0, 1]))))
        >>> holder.answer(Question("statistics", Setting(layer="scores"))).statistics.mean
        array([0.5, 0.5, 0. ])
    """

    def __init__(self, network: Network, examination: Examination) -> None:
        self._network = network
        self._examination = examination
        self._studied: _Studied | None = None
        self._cut_model: tuple[str, CutModel] | None = None

    def answer(self, question: Question) -> Answer:
        """Do what is asked, on the samples that are here.

        Raises:
            LayerError: There is no such layer, or it cannot be used.
            WeightsError: A weight does not fit the model.
            DataError: The samples do not fit it.
            ModelError: It cannot be run, or scores differently each time.
        """
        with one_blas_thread():
            if question.task == "in full":
                return Answer(scored=self._in_full(question))
            if question.task == "candidates":
                return Answer(scored=self._from_the_layer_on(question))
            studied = self._study(question.setting)
            if question.task == "statistics":
                return Answer(statistics=studied.study.statistics)
            flipping = _flipping(studied.network, question.setting)
            return Answer(proof=studied.study.prove(flipping, seed=question.seed))

    def _study(self, setting: Setting) -> _Studied:
        if self._studied is None or self._studied.digest != setting.model_digest:
            # First of all, so that two studies are never in memory at once.
            self._studied = self._cut_model = None
            network = self._network.replace(setting.weights) if setting.weights else self._network
            study = self._examination.study(network, setting.layer)
            self._studied = _Studied(setting.model_digest, network, study)
        return self._studied

    def _from_the_layer_on(self, question: Question) -> tuple[Scored, ...]:
        setting = question.setting
        studied = self._study(setting)
        known, model = self._cut_model or ("", None)
        if model is None or known != setting.digest or question.ends[0] < model.end:
            flipping = _flipping(studied.network, setting)
            model = studied.study.cut_model(flipping, window=setting.window)
            self._cut_model = setting.digest, model
        with one_thread_for(model.work):
            return tuple(model.advance(question.ends))

    def _in_full(self, question: Question) -> tuple[Scored, ...]:
        setting = question.setting
        network = self._network.replace(setting.weights) if setting.weights else self._network
        if question.ends:
            flipping = _flipping(network, setting)
            networks = [flipping.candidate(end) for end in question.ends]
        else:
            networks = [network]
        examination = self._examination
        if question.probes:
            return tuple(examination.of(each) for each in networks)
        return tuple(Scored(examination.clean_tally(each)) for each in networks)


def _flipping(network: Network, setting: Setting) -> FlippingOrder:
    layer = network.layers()[setting.layer]
    if setting.initial is None:
        raise WeightsError(f"expected the initial weight of {setting.layer!r}; got none")
    return FlippingOrder(network, layer, setting.initial, setting.factor, setting.order)
