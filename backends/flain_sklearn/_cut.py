"""A perceptron run once up to a layer, ready to go on from there many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from flain_core.network import Array

from ._forward import Forward

__all__ = ["SklearnCut"]


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
        self.inputs = _read_only(forward.into(layer, x))
        """``(n, in)``."""
        self.output = _read_only(forward.at(layer, self.inputs))
        """The pre-activation ``(n, out)``."""

    def linear(self, weight: Array, neurons: Array) -> Array:
        """``(n, out)``: what ``neurons`` ``(k,)`` contribute under ``weight`` ``(out, in)``."""
        columns = weight[:, neurons].astype(self.output.dtype, copy=False)
        # matmul takes twice as long as dot for a single neuron, the commonest case.
        contribution: Array = np.dot(self._by_neuron[neurons].T, columns.T)
        return contribution

    def tail(self, output: Array) -> Array:
        """The scores ``(n, ...)`` if the pre-activation were ``output`` ``(n, out)``."""
        scores = self._forward.behind(self._layer, output)
        # After the last layer the scores would be the caller's own array.
        return scores.copy() if np.may_share_memory(scores, output) else scores

    @property
    def tail_by_sample(self) -> Callable[[Array], Array]:
        """The tail: it takes any samples, as a perceptron treats each by itself."""
        return self.tail

    @cached_property
    def _by_neuron(self) -> Array:
        # Laid out by neuron, so that picking neurons copies whole rows.
        by_neuron = np.ascontiguousarray(self.inputs.T)
        return by_neuron.astype(self.output.dtype, copy=False)


def _read_only(values: Array) -> Array:
    view = values.view()
    view.flags.writeable = False
    return view
