"""A perceptron run once up to a layer, ready to go on from there many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from flain_core.backend_kit import DenseInput, read_only
from flain_core.network import Array

from ._forward import Forward


class SklearnCut:
    """One batch of n samples at one layer; implements :class:`flain_core.network.Cut`.

    Args:
        forward: The perceptron.
        layer: Position of the layer in ``coefs_``.
        x: ``(n, features)``.
    """

    calls = 1

    def __init__(self, forward: Forward, layer: int, x: Array) -> None:
        self._forward = forward
        self._layer = layer
        self.inputs = read_only(forward.into(layer, x))
        """``(n, in)``."""
        self.output = read_only(forward.at(layer, self.inputs))
        """The pre-activation ``(n, out)``."""

    def linear(self, weight: Array, neurons: Array) -> Array:
        """Return ``(n, out)``: what ``neurons`` ``(k,)`` contribute under ``weight``."""
        return self._entered.linear(weight, neurons)

    def tail(self, output: Array) -> Array:
        """Return the scores ``(n, ...)`` if the pre-activation were ``output`` ``(n, out)``."""
        scores = self._forward.behind(self._layer, output)
        # After the last layer the scores would be the caller's own array.
        return scores.copy() if np.may_share_memory(scores, output) else scores

    @property
    def tail_by_sample(self) -> Callable[[Array], Array]:
        """The tail: it takes any samples, as a perceptron treats each by itself."""
        return self.tail

    @cached_property
    def _entered(self) -> DenseInput:
        return DenseInput(self.inputs.astype(self.output.dtype, copy=False))
