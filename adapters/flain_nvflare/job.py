"""A job's purification, with every path and import resolved, on parameters as servers hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.app_common.np.constants import NPConstants

from flain_core import PurifiedArrays, Settings, WeightsError, purify_arrays
from flain_core.arrays.purify_arrays import opened
from flain_core.layer_choice import chosen_layers
from flain_core.local_samples import source_of
from flain_core.network import Array
from flain_core.opening.registry import open_network
from flain_core.outputs import Outputs
from flain_core.progress import OnProgress
from flain_core.sample_source import SampleSource

_KERAS_MARK = "_nvf_"


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that :func:`flain_core.purify_arrays` needs besides the weights.

    ``data`` is the path of the clean samples, ``.npz`` with ``x`` and ``y``, or clients to ask.
    """

    model: Any
    data: Path | SampleSource
    probes: Mapping[str, Path] | None
    layers: str | Sequence[str]
    settings: Settings
    outputs: Outputs | None = None

    def check(self) -> None:
        """Find the layers, read the samples, and run the untrained model on those that are here."""
        source = source_of(self.data, probes=self.probes, outputs=self.outputs)
        network = open_network(self.model)
        chosen_layers(network, self.layers)
        facts = source.facts
        settings = self.settings.resolved(classify=facts.classify, local=facts.local)
        if facts.local:
            source.scorer(network, settings, 0).score_of(network)

    def check_initial(self, initial: Mapping[str, Any]) -> None:
        """Raise :class:`WeightsError` unless initial, and so trained, parameters fit the model."""
        opened(_as_arrays(initial, self.model), self.model, which="initial")

    def purify(
        self, initial: Mapping[str, Any], trained: Mapping[str, Any], progress: OnProgress
    ) -> PurifiedArrays:
        """Purify trained parameters, and return them as the server holds them."""
        purified = purify_arrays(
            _as_arrays(initial, self.model),
            _as_arrays(trained, self.model),
            self.model,
            data=self.data,
            layers=self.layers,
            settings=self.settings,
            probes=self.probes,
            outputs=self.outputs,
            progress=progress,
        )
        return replace(purified, arrays=_as_parameters(purified.arrays, trained, self.model))


def _as_arrays(given: Mapping[str, Any], model: Any) -> Mapping[str, Any] | list[Any] | Array:
    """Return parameters that a workflow gave in the form that ``purify_arrays`` takes.

    They are arrays or tensors by name: PyTorch's names; ``<layer>_nvf_<position>`` for Keras; or
    the one name ``numpy_key`` for a job whose model is a single array.
    """
    if list(given) == [NPConstants.NUMPY_KEY]:
        return np.asarray(given[NPConstants.NUMPY_KEY]).reshape(-1)
    order = _keras_order(given, model)
    return given if order is None else [given[name] for name in order]


def _as_parameters(arrays: Any, given: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return arrays with the names, order and shapes of parameters that were given."""
    if list(given) == [NPConstants.NUMPY_KEY]:
        return {name: arrays.reshape(np.shape(value)) for name, value in given.items()}
    order = _keras_order(given, model)
    named = arrays if order is None else dict(zip(order, arrays, strict=True))
    return {name: named[name] for name in given}


def _keras_order(given: Mapping[str, Any], model: Any) -> list[str] | None:
    """Return names in the order of Keras's ``get_weights()``; None for other frameworks."""
    if not given or not all(_KERAS_MARK in str(name) for name in given):
        return None
    order = [
        f"{layer.name}{_KERAS_MARK}{position}"
        for layer in getattr(model, "layers", ())
        for position in range(len(layer.get_weights()))
    ]
    if set(order) != set(given):
        missing = ", ".join(map(repr, sorted(set(order) ^ set(given))))
        raise WeightsError(
            "expected the weights of every layer of the Keras model and no others; only one "
            f"of the two has {missing}"
        )
    return order
