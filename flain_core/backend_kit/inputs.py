"""Brings samples, and what enters a layer, into the forms that a network and a search take."""

from __future__ import annotations

from typing import Any

import numpy as np

from flain_core.blocks import largest_of
from flain_core.errors import DataError, LayerError
from flain_core.network import Array


def check_in_range(samples: Array, dtype: Any, most: float | None = None) -> None:
    """Raise :class:`DataError` if samples leave the range of the type in which a model computes.

    Args:
        samples: Finite numbers, as they are given.
        dtype: That type.
        most: The largest number that it holds; None for a type that NumPy knows.

    >>> check_in_range(np.array([1.0, -1e300]), np.dtype(np.float32))
    Traceback (most recent call last):
        ...
    flain_core.errors.DataError: expected samples in the range of float32, in which the model
    computes; got numbers up to 1.0e+300: scale them as in training
    """
    most = float(np.finfo(dtype).max) if most is None else most
    if samples.dtype.kind != "f" or not samples.size or float(np.finfo(samples.dtype).max) <= most:
        return
    largest = largest_of(samples)
    if largest > most:
        raise DataError(
            f"expected samples in the range of {dtype}, in which the model computes; got numbers "
            f"up to {largest:.1e}: scale them as in training"
        )


def split_samples(x: Any, samples: int) -> Any:
    """Bring what enters a layer into the form ``(samples, ...)``.

    Args:
        x: ``(rows, ...)``, with equally many consecutive rows for each sample; a NumPy array or a
            PyTorch tensor.
        samples: How many samples the batch has.

    Returns:
        ``x`` itself, or ``(samples, rows / samples, ...)``.

    Raises:
        LayerError: The layer does not see every sample equally often.

    >>> split_samples(np.zeros((6, 4)), 3).shape
    (3, 2, 4)
    """
    if len(x) == samples:
        return x
    if len(x) % samples:
        raise LayerError(
            f"expected the layer to see every one of the {samples} samples equally often; its "
            f"input has shape {tuple(x.shape)}; choose another layer"
        )
    return x.reshape(samples, -1, *x.shape[1:])


def stacked_calls(inputs: list[Array]) -> Array:
    """Return the inputs of several calls of a layer as positions.

    Args:
        inputs: For each call ``(n, in, *positions)``.

    Returns:
        ``(n, in, *positions)`` of a single call, read only; ``(n, in, p)`` of several.
    """
    if len(inputs) == 1:
        return read_only(inputs[0])
    return read_only(np.concatenate([x.reshape(*x.shape[:2], -1) for x in inputs], axis=2))


def read_only(array: Array) -> Array:
    """Return a view that nobody can write through."""
    view = array.view()
    view.flags.writeable = False
    return view


class DenseInput:
    """The input of a dense layer, stored neuron by neuron: a few neurons are a few contiguous rows.

    Other frameworks use it too: a search multiplies so little at a time that calling an engine
    would cost more than the product.

    Args:
        x: ``(*rows, in)``; kept in float32 or float64.

    Example:
        >>> entered = DenseInput(np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> entered.linear(np.array([[10.0, 1.0]]), np.array([1]))
        array([[2.],
               [4.]])
    """

    def __init__(self, x: Array) -> None:
        self._rows = x.shape[:-1]
        wide = np.promote_types(x.dtype, np.float32)
        self._by_neuron = np.array(x.reshape(-1, x.shape[-1]).T, dtype=wide, order="C")

    @property
    def x(self) -> Array:
        """``(*rows, in)``, a view."""
        return self._by_neuron.T.reshape(*self._rows, -1)

    def linear(self, weight: Array, neurons: Array) -> Array:
        """Return what some input neurons contribute to the pre-activation.

        Gathering is fastest if ``weight`` lies in memory column by column.

        Args:
            weight: ``(out, in)``.
            neurons: ``(k,)`` distinct indices.

        Returns:
            ``(*rows, out)``.
        """
        columns = weight.T[neurons].astype(self._by_neuron.dtype, copy=False)
        # matmul takes twice as long as dot for a single neuron, the commonest case.
        product: Array = np.dot(self._by_neuron[neurons].T, columns)
        return product.reshape(*self._rows, -1)
