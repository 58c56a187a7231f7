"""The computation of a fitted perceptron, which can stop at a layer and go on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from flain_core.errors import ModelError
from flain_core.network import Array

_Function = Callable[[Array], Array]


def _identity(output: Array) -> Array:
    return output


def _relu(output: Array) -> Array:
    return np.maximum(output, 0)


def _beside_zero(output: Array) -> Array:
    """Turn log-odds of the second of two classes, ``(n, 1)``, into scores of both, ``(n, 2)``."""
    return np.hstack([np.zeros_like(output), output])


_HIDDEN: dict[str, _Function] = {
    "identity": _identity,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": _relu,
}
# The class of the greatest pre-activation is the class of the greatest probability.
_SCORES: dict[str, _Function] = {
    "identity": _identity,
    "softmax": _identity,
    "logistic": _beside_zero,
    "exp": np.exp,
}


@dataclass(frozen=True, eq=False)
class Forward:
    """The chain of layers.

    Attributes:
        coefs: For each layer ``(in, out)``.
        intercepts: For each layer ``(out,)``.
        hidden: The activation between layers.
        scores: Turns the last pre-activation ``(n, out)`` into scores ``(n, ...)``.
    """

    coefs: Sequence[Array]
    intercepts: Sequence[Array]
    hidden: _Function
    scores: _Function

    def into(self, layer: int, x: Array) -> Array:
        """Return what enters a layer, ``(n, in)``, for samples ``(n, features)``."""
        for before in range(layer):
            x = self.hidden(self.at(before, x))
        return x

    def at(self, layer: int, x: Array) -> Array:
        """Return the pre-activation ``(n, out)`` of a layer for what enters it, ``(n, in)``."""
        output: Array = x @ self.coefs[layer] + self.intercepts[layer]
        return output

    def behind(self, layer: int, output: Array) -> Array:
        """Return the scores ``(n, ...)`` for the pre-activation ``(n, out)`` of a layer."""
        for after in range(layer + 1, len(self.coefs)):
            output = self.at(after, self.hidden(output))
        return self.scores(output)


def forward_of(estimator: Any) -> Forward:
    """Read a fitted estimator.

    Raises:
        ModelError: It classifies several labels at once, or has an unknown activation.
    """
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
