"""A fitted multilayer perceptron as the algorithm sees it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from flain_core.backend_kit import (
    CHANGED_MEANWHILE,
    check_floating,
    find_layer,
    fitting_bias,
    fitting_weight,
    read_only,
)
from flain_core.errors import ModelError, WeightsError
from flain_core.network import Array, Layer

from ._forward import SklearnCut, forward_of

Estimator: TypeAlias = MLPClassifier | MLPRegressor

_WEIGHTS = ("coefs_", "intercepts_")
_FITTED = (*_WEIGHTS, "out_activation_", "n_outputs_")


def open_network(
    model: Estimator | Mapping[str, Any], *, like: Estimator | None = None
) -> SklearnNetwork:
    """Open a fitted estimator, or its bare weights. The estimator itself is never touched.

    Args:
        model: An MLPClassifier or MLPRegressor, fitted at least once; or the weights of one by
            attribute, as scikit-learn lays them out: ``coefs_``, and ``intercepts_`` if you have
            them; or as :func:`arrays_of` gives them.
        like: The estimator that the weights belong to; ignored for an estimator.

    Raises:
        ModelError: It is something else, is not fitted, or classifies several labels at once.
        WeightsError: The weights do not fit ``like``.

    >>> model = MLPRegressor(hidden_layer_sizes=(5,))
    >>> model = model.partial_fit(np.zeros((2, 3)), np.zeros(2))
    >>> open_network({"coefs_": model.coefs_}, like=model)
    SklearnNetwork(coefs_0 5×3, coefs_1 1×5)
    """
    if not isinstance(model, Mapping):
        _require_perceptron(model)
        return SklearnNetwork(_copied(model))
    if like is None:
        raise ModelError("cannot open weights alone; pass the estimator they belong to as `like`")
    _require_perceptron(like)
    estimator = _copied(like)
    targets = _named_arrays(estimator)
    for name, array in (model if model.keys() == targets.keys() else _named(model, like)).items():
        check_floating(name, array)
        _assign(name, targets[name], array)
    return SklearnNetwork(estimator)


def arrays_of(model: Estimator, *, buffers: bool = True) -> dict[str, Array]:  # noqa: ARG001
    """Copy ``coefs_``, called ``coefs_0`` and so on, and ``intercepts_``, likewise, in that order.

    Args:
        model: A fitted MLPClassifier or MLPRegressor.
        buffers: Makes no difference: an estimator has none.

    Raises:
        ModelError: It is something else, or is not fitted.

    >>> model = MLPRegressor(hidden_layer_sizes=(5,))
    >>> model = model.partial_fit(np.zeros((2, 3)), np.zeros(2))
    >>> {name: array.shape for name, array in arrays_of(model).items()}
    {'coefs_0': (3, 5), 'coefs_1': (5, 1), 'intercepts_0': (5,), 'intercepts_1': (1,)}
    """
    _require_perceptron(model)
    return {name: array.copy() for name, array in _named_arrays(model).items()}


def _copied(estimator: Estimator) -> Estimator:
    """Copy an estimator, whole as it is at one moment."""
    copy = deepcopy(estimator)
    mine = _named_arrays(copy)
    for name, array in _named_arrays(estimator).items():
        if not np.array_equal(array, mine[name], equal_nan=True):
            raise ModelError(f"{name!r} {CHANGED_MEANWHILE}")
    return copy


class SklearnNetwork:
    """Implements :class:`flain_core.network.Network` with an estimator that nobody else holds."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._forward = forward_of(estimator)
        coefs = {f"coefs_{i}": coefs for i, coefs in enumerate(estimator.coefs_)}
        self._positions = {name: i for i, name in enumerate(coefs)}
        self._layers = {
            name: _layer(name, coefs[name], _own_bias(estimator, i))
            for name, i in self._positions.items()
        }

    def __repr__(self) -> str:
        layers = self._layers.values()
        shapes = (f"{each.name} {len(each.weight)}×{each.neurons}" for each in layers)
        return f"SklearnNetwork({', '.join(shapes)})"

    @property
    def native(self) -> Estimator:
        """A new copy of the estimator, with the state of its training."""
        return deepcopy(self._estimator)

    def layers(self) -> dict[str, Layer]:
        return dict(self._layers)

    def predict(self, x: Array) -> Array:
        """Return ``(n, classes)`` in the order of ``classes_``, whose softmax is ``predict_proba``.

        A regressor's scores are its predictions ``(n, outputs)``.
        """
        return self._forward.behind(0, self._forward.at(0, self._samples(x)))

    def cut(self, layer: str, x: Array) -> SklearnCut:
        return SklearnCut(self._forward, find_layer(self._positions, layer), self._samples(x))

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> SklearnNetwork:
        """Return a network of another estimator; a bias is one of ``intercepts_``, ``(out,)``."""
        estimator = deepcopy(self._estimator)
        for name, weight in weights.items():
            _assign(name, estimator.coefs_[find_layer(self._positions, name)].T, weight)
        for name, bias in (biases or {}).items():
            target = estimator.intercepts_[find_layer(self._positions, name)]
            target[...] = fitting_bias(name, bias, self._layers[name].bias)
        return SklearnNetwork(estimator)

    def _samples(self, x: Any) -> Array:
        width = len(self._forward.coefs[0])
        given = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub" or x.shape[1:] != (width,):
            raise ModelError(
                f"expected an array of real numbers (n, {width}), as the estimator was fitted "
                f"on; got {given}"
            )
        # As scikit-learn does; and a loader may reuse the array of one batch for the next one.
        return x.astype(x.dtype if x.dtype in (np.float32, np.float64) else np.float64)


def _layer(name: str, coefs: Array, bias: Array | None) -> Layer:
    weight = read_only(np.ascontiguousarray(coefs.T))
    return Layer(name, "dense", weight, epsilon=float(np.finfo(weight.dtype).eps), bias=bias)


def _own_bias(estimator: Estimator, layer: int) -> Array | None:
    """Return the intercepts ``(out,)`` of a layer; None if another array lies in their memory."""
    bias: Any = estimator.intercepts_[layer]
    # Whoever sets intercepts by hand may set lists, or whole numbers.
    if not isinstance(bias, np.ndarray) or bias.dtype.kind != "f" or bias.ndim != 1:
        return None
    arrays = (*estimator.coefs_, *estimator.intercepts_)
    alone = sum(np.may_share_memory(bias, each) for each in arrays) == 1
    return read_only(bias) if alone else None


def _named(weights: Mapping[str, Any], like: Estimator) -> dict[str, Any]:
    if "coefs_" not in weights or not set(weights) <= set(_WEIGHTS):
        raise WeightsError(
            f"expected weights {{'coefs_': [...], 'intercepts_': [...]}}; got {sorted(weights)}"
        )
    for attribute, arrays in weights.items():
        expected = len(getattr(like, attribute))
        if len(arrays) != expected:
            raise WeightsError(f"{attribute}: expected {expected} arrays; got {len(arrays)}")
    return {f"{name}{i}": each for name in weights for i, each in enumerate(weights[name])}


def _named_arrays(estimator: Estimator) -> dict[str, Array]:
    return {
        f"{name}{i}": each for name in _WEIGHTS for i, each in enumerate(getattr(estimator, name))
    }


def _require_perceptron(model: Any) -> None:
    if not isinstance(model, (MLPClassifier, MLPRegressor)):
        raise ModelError(
            "expected an MLPClassifier or MLPRegressor, or the weights {'coefs_': [...]} of the "
            f"initial one; got {type(model).__name__}. For a pipeline or a search give the "
            "perceptron inside it, and the data as it arrives there: pipeline[-1] and "
            "pipeline[:-1].transform(x), search.best_estimator_"
        )
    try:
        check_is_fitted(model, _FITTED)
    except NotFittedError as error:
        raise ModelError(
            f"expected a fitted {type(model).__name__}, as it has no weights before; fit it, or "
            "call partial_fit on one batch and then set coefs_ and intercepts_"
        ) from error
    for place, weight in enumerate(model.coefs_):
        check_floating(f"coefs_[{place}]", weight)


def _assign(name: str, target: Array, weight: Any) -> None:
    # In place, since an optimizer that goes on training may hold the same array.
    target[...] = fitting_weight(name, weight, target.shape, target.dtype)
