"""A Keras model as the algorithm sees it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from flain_core.backend_kit import check_floating, find_layer, read_only, refusals, usable
from flain_core.errors import ModelError, WeightsError
from flain_core.network import Array, Batch, Layer
from flain_core.provenance.purified_before import carried, carry

from ._copy import private_copy
from ._cut import KerasCut, cut_at
from ._engine import EPSILON, as_array, single_precision
from ._files import load
from ._layers import Entry, array_in, bias_for, catalogue, free_name, kernel_for, weight_in
from ._memory import Memory
from ._run import Runner, as_batch


def open_network(
    model: keras.Model | Sequence[Array] | Mapping[str, Array],
    *,
    like: Any = None,
    scores: str | int | None = None,
) -> KerasNetwork:
    """Open a model, or the weights of one, for purification. The model itself is never touched.

    Args:
        model: A built model, or arrays as ``model.get_weights()`` or :func:`arrays_of` gives them.
        like: A model, network or file of the same architecture. Weights are put into it. A model's
            layers take over its names if they differ: Keras numbers ``dense_1`` through all models
            of a process, so initial and final model seldom agree. The output that was chosen for a
            network is chosen here too.
        scores: Name or position of the output that holds the scores, for a model of several.

    Raises:
        ModelError: The model cannot be opened.
        WeightsError: The weights do not fit ``like``.

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
    >>> open_network(model.get_weights(), like=model).layers()
    {'fc': Layer('fc', dense, 2×3, 3 input neurons)}
    """
    other = _model_like(like)
    if isinstance(model, (Sequence, Mapping)) and other is not None:
        copy = private_copy(other)
        _set_weights(copy, model)
    else:
        _refuse_unfit(model)
        copy = private_copy(model)
    entries = catalogue(copy)
    if isinstance(like, KerasNetwork):
        entries = _renamed(entries, like._entries)
        scores = like._scores if scores is None else scores
    elif other is not None:
        entries = _renamed(entries, catalogue(other))
    network = KerasNetwork(copy, entries, scores)
    carry(network, carried(model))
    return network


def arrays_of(model: keras.Model | KerasNetwork, *, buffers: bool = True) -> dict[str, Array]:
    """Copy the weights of a model, in the order of ``get_weights()``, by path.

    Args:
        model: A built model.
        buffers: False for its ``trainable_weights`` alone.

    Raises:
        ModelError: It is no model, or has no weights yet.

    >>> layers = [keras.Input((3,)), keras.layers.Dense(2, name="fc")]
    >>> model = keras.Sequential(layers, name="net")
    >>> [array.shape for array in arrays_of(model).values()]
    [(3, 2), (2,)]
    """
    model = model.native if isinstance(model, KerasNetwork) else model
    _refuse_unfit(model)
    return {
        name: array_in(variable.value)
        for name, variable in _variables(model).items()
        if buffers or any(variable is each for each in model.trainable_weights)
    }


class KerasNetwork:
    """Implements :class:`flain_core.network.Network`; made by :func:`open_network`.

    Scores are float32 or float64. Nobody else changes ``model``; the ``entries`` are its layers as
    :func:`catalogue` gives them, by the names they go by here; ``scores`` is the name or position
    of the output with the scores; ``kernels`` and ``biases`` are tensors to use in place of the
    model's, by layer.
    """

    def __init__(
        self,
        model: keras.Model,
        entries: Mapping[str, Entry | str],
        scores: str | int | None = None,
        kernels: Mapping[str, Any] | None = None,
        biases: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._entries, self._scores = model, entries, scores
        self._kernels, self._biases = dict(kernels or {}), dict(biases or {})
        self._memory: Memory = {}

    def __reduce__(self) -> tuple[Callable[..., KerasNetwork], tuple[object, ...]]:
        # Saved apart, so that the engine is compared before Keras loads anything.
        saved = pickle.dumps(self.native)
        return _arrived, (keras.backend.backend(), saved, tuple(self._entries), self._scores)

    @property
    def native(self) -> keras.Model:
        """A new copy of the model with its weights in place, not compiled."""
        copy = private_copy(self._model)
        copied = dict(zip(self._entries, catalogue(copy).values(), strict=True))
        for name, kernel in self._kernels.items():
            find_layer(copied, name).layer.kernel.assign(kernel)
        for name, bias in self._biases.items():
            find_layer(copied, name).bias.assign(bias)
        return copy

    def layers(self) -> dict[str, Layer]:
        """Return the dense and convolutional layers; one inside another is ``"outer/inner"``."""
        return {name: self._layer(name, entry) for name, entry in usable(self._entries).items()}

    def refused_layers(self) -> dict[str, str]:
        """Return why the other dense and convolutional layers cannot be purified, by name."""
        return refusals(self._entries)

    def predict(self, x: Batch) -> Array:
        with single_precision():
            return as_array(self._runner().run(*as_batch(x)))

    def cut(self, layer: str, x: Batch) -> KerasCut:
        with single_precision():
            return cut_at(layer, self._find(layer), self._runner(), *as_batch(x), self._memory)

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> KerasNetwork:
        """Return a network that runs the same private model, with other values during a run."""
        kernels, others = dict(self._kernels), dict(self._biases)
        for name, weight in weights.items():
            kernels[name] = kernel_for(name, self._find(name), weight)
        for name, bias in (biases or {}).items():
            others[name] = bias_for(name, self._find(name), bias)
        return KerasNetwork(self._model, self._entries, self._scores, kernels, others)

    def _find(self, name: str) -> Entry:
        return find_layer(self._entries, name)

    def _runner(self) -> Runner:
        kernels = ((self._find(name).layer.kernel, new) for name, new in self._kernels.items())
        biases = ((self._find(name).bias, new) for name, new in self._biases.items())
        return Runner(self._model, self._scores, [*kernels, *biases])

    def _layer(self, name: str, entry: Entry) -> Layer:
        kernel = self._kernels.get(name)
        return Layer(
            name=name,
            kind="dense" if entry.kind.name == "dense" else "conv",
            weight=weight_in(entry, entry.layer.kernel.value if kernel is None else kernel),
            groups=entry.kind.groups,
            epsilon=EPSILON[entry.layer.compute_dtype],
            bias=self._bias(name, entry),
        )

    def _bias(self, name: str, entry: Entry) -> Array | None:
        if entry.bias is None:
            return None
        bias = self._biases.get(name)
        return read_only(array_in(entry.bias.value if bias is None else bias))


def _arrived(
    engine: str, saved: bytes, names: Sequence[str], scores: str | int | None
) -> KerasNetwork:
    if keras.backend.backend() != engine:
        raise ModelError(
            f"the model was opened with Keras on {engine}, and this process runs Keras on "
            f"{keras.backend.backend()}; set KERAS_BACKEND={engine} in its environment"
        )
    try:
        model = pickle.loads(saved)  # noqa: S301  part of what is being unpickled already
    # Keras reports unknown classes with whatever its parts raise.
    except Exception as error:
        raise ModelError(
            f"the Keras model cannot be loaded in this process: {error}; register classes of your "
            "own with keras.saving.register_keras_serializable, in a module that it can import"
        ) from error
    entries = dict(zip(names, catalogue(model).values(), strict=True))
    return KerasNetwork(model, entries, scores)


def _refuse_unfit(model: object) -> None:
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"expected a keras.Model, or a list of weights with `like`; got a "
            f"{type(model).__name__}; wrap a layer in keras.Sequential"
        )
    if not model.built or not model.weights:
        raise ModelError(
            f"the {type(model).__name__} {model.name!r} has no weights yet: run it on one batch "
            "first, model(x[:1]), or build it, and load its weights"
        )


def _model_like(like: Any) -> keras.Model | None:
    if isinstance(like, KerasNetwork):
        return like._model
    if isinstance(like, (str, os.PathLike)):
        return load(like) if os.fspath(like).endswith((".keras", ".h5")) else None
    return like if isinstance(like, keras.Model) else None


def _variables(model: keras.Model) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for variable in model.weights:
        variables[free_name(variable.path, variables)] = variable
    return variables


def _set_weights(model: keras.Model, weights: Sequence[Array] | Mapping[str, Array]) -> None:
    if isinstance(weights, Mapping):
        names = list(_variables(model))
        if weights.keys() != set(names):
            raise WeightsError(
                f"the weights do not fit the {type(model).__name__}: expected arrays called "
                f"{', '.join(names)}; got {', '.join(map(str, weights))}. Keras numbers layers "
                "through all models of a process; if only the numbers differ, give get_weights()"
            )
        weights = [weights[name] for name in names]
    for variable, given in zip(model.weights, weights, strict=False):
        # Keras would cast them in silence.
        if "float" in variable.dtype:
            check_floating(variable.path, given)
    try:
        model.set_weights(list(weights))
    except Exception as error:
        raise WeightsError(
            f"the weights do not fit the {type(model).__name__}; they must come from the same "
            f"architecture, in the order of get_weights(): {error}"
        ) from error


def _renamed(
    entries: dict[str, Entry | str], others: Mapping[str, Entry | str]
) -> dict[str, Entry | str]:
    """Take over the names of the others if layer by layer all else is the same."""
    if list(map(_form, entries.values())) != list(map(_form, others.values())):
        return entries
    return dict(zip(others, entries.values(), strict=True))


def _form(entry: Entry | str) -> object:
    return entry if isinstance(entry, str) else (entry.kind, tuple(entry.layer.kernel.shape))
