"""The computation of a fitted perceptron, which can stop at a layer and go on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.special import expit

from flain_core.backend_kit import DenseInput, read_only
from flain_core.errors import ModelError
from flain_core.network import Array

_Function = Callable[[Array], Array]


def _beside_zero(output: Array) -> Array:
    """Turn log-odds of the second of two classes, ``(n, 1)``, into scores of both, ``(n, 2)``."""
    return np.hstack([np.zeros_like(output), output])


# A copy where nothing changes keeps the scores from being the caller's own array.
_HIDDEN: dict[str, _Function] = {
    "identity": np.positive,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": partial(np.maximum, 0),
}
# The class of the greatest pre-activation is the class of the greatest probability.
_SCORES: dict[str, _Function] = {
    "identity": np.positive,
    "softmax": np.positive,
    "logistic": _beside_zero,
    "exp": np.exp,
}


@dataclass(frozen=True, eq=False)
class Forward:
    """The chain of layers, each with coefs ``(in, out)`` and intercepts ``(out,)``."""

    coefs: Sequence[Array]
    intercepts: Sequence[Array]
    hidden: _Function
    """The activation between layers."""
    scores: _Function
    """Turns the last pre-activation ``(n, out)`` into scores ``(n, ...)``."""

    def at(self, layer: int, x: Array) -> Array:
        """Return the pre-activation ``(n, out)`` of a layer for what enters it, ``(n, in)``."""
        output: Array = x @ self.coefs[layer] + self.intercepts[layer]
        return output

    def behind(self, layer: int, output: Array) -> Array:
        """Return the scores ``(n, ...)`` for the pre-activation ``(n, out)`` of a layer."""
        for after in range(layer + 1, len(self.coefs)):
            output = self.at(after, self.hidden(output))
        return self.scores(output)


class SklearnCut:
    """Implements :class:`flain_core.network.Cut` for the layer ``coefs_[layer]``."""

    calls = 1

    def __init__(self, forward: Forward, layer: int, x: Array) -> None:
        self._forward, self._layer = forward, layer
        for before in range(layer):
            x = forward.hidden(forward.at(before, x))
        self.inputs = read_only(x)
        self.output = read_only(forward.at(layer, x))

    def linear(self, weight: Array, neurons: Array) -> Array:
        return self._entered.linear(weight, neurons)

    def tail(self, output: Array) -> Array:
        return self._forward.behind(self._layer, output)

    # A perceptron treats each sample by itself.
    tail_by_sample = tail

    @cached_property
    def _entered(self) -> DenseInput:
        return DenseInput(self.inputs.astype(self.output.dtype, copy=False))


def forward_of(estimator: Any) -> Forward:
    if estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1:
        raise ModelError(
            "expected an MLPClassifier of one class per sample; got one that was fitted on several "
            "labels at once, which have no single right class; fit one per label"
        )
    hidden = _known(_HIDDEN, estimator.activation)
    scores = _known(_SCORES, estimator.out_activation_)
    return Forward(estimator.coefs_, estimator.intercepts_, hidden, scores)


def _known(functions: dict[str, _Function], name: str) -> _Function:
    if name not in functions:
        raise ModelError(
            f"expected an activation among {', '.join(functions)}; got {name!r}; fit the estimator "
            "with one of those"
        )
    return functions[name]
