"""Activation functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

from .erf import erf


@dataclass(frozen=True, eq=False)
class ReLU:
    """``max(x, 0)``.

    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def __call__(self, x: Array) -> Array:
        """Apply it to each number of ``x``."""
        return np.maximum(x, 0)


@dataclass(frozen=True, eq=False)
class GELU:
    """``x · Φ(x)``, the Gaussian error linear unit.

    Attributes:
        approximate: Use the tanh form of Hendrycks and Gimpel (2016) instead of the exact one.

    >>> GELU()(np.array([-1.0, 2.0])).round(4)
    array([-0.1587,  1.9545])
    >>> GELU(approximate=True)(np.array([-1.0, 2.0])).round(4)
    array([-0.1588,  1.9546])
    """

    approximate: bool = False

    def __call__(self, x: Array) -> Array:
        """Apply it to each number of ``x``."""
        if self.approximate:
            twice_phi = 1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        else:
            twice_phi = 1 + erf(x / math.sqrt(2))
        result: Array = 0.5 * x * twice_phi
        return result


@dataclass(frozen=True, eq=False)
class Tanh:
    """``tanh(x)``.

    >>> Tanh()(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    """

    def __call__(self, x: Array) -> Array:
        """Apply it to each number of ``x``."""
        return np.tanh(x)


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """``1 / (1 + exp(−x))``.

    >>> Sigmoid()(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([0.    , 0.5   , 0.7311])
    """

    def __call__(self, x: Array) -> Array:
        """Apply it to each number of ``x``."""
        # The exponent is never positive, so large inputs of either sign cannot overflow.
        decay = np.exp(-np.abs(x))
        result: Array = np.where(x < 0, decay, 1) / (1 + decay)
        return result


@dataclass(frozen=True, eq=False)
class Softmax:
    """Turns scores into probabilities along one axis.

    Attributes:
        axis: The axis of the classes.

    >>> Softmax()(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """

    axis: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int):
            raise ModelError(f"axis: expected an integer; got {self.axis!r}")

    def __call__(self, x: Array) -> Array:
        """Turn the scores along :attr:`axis` into probabilities."""
        powers: Array = np.exp(x - x.max(axis=self.axis, keepdims=True))
        powers /= powers.sum(axis=self.axis, keepdims=True)
        return powers
