"""Fits weights and biases to the type and the layout that a layer stores."""

from __future__ import annotations

from typing import Any

import numpy as np

from flain_core.blocks import is_handed_over, row_blocks
from flain_core.errors import WeightsError
from flain_core.network import Array


def fitting_weight(name: str, weight: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return a weight in a layer's type, rounded once.

    Args:
        name: What the layer, or the array, is called in messages.
        weight: ``shape``, real numbers.
        shape: The canonical shape that is expected.
        dtype: The floating-point type that the layer stores.

    Returns:
        A new array, contiguous in memory; or the weight itself, where it is that already and nobody
        can write to it.

    Raises:
        WeightsError: The shape differs, or the numbers are not finite in that type.

    >>> fitting_weight("fc1", np.ones((2, 3)), (2, 3), np.float16).dtype
    dtype('float16')
    """
    return _fitting("weight", name, weight, shape, dtype)


def fitting_bias(name: str, bias: Any, present: Array | None, dtype: Any = None) -> Array:
    """Return a bias in a layer's type, rounded once.

    Args:
        name: What the layer is called in messages.
        bias: ``(out,)``, real numbers.
        present: The bias ``(out,)`` that the layer shows; None where it shows none.
        dtype: The floating-point type that the layer stores; by default that of ``present``.

    Returns:
        A new array ``(out,)``.

    Raises:
        WeightsError: The layer shows no bias, the shape differs, or the numbers are not finite in
            that type.

    >>> fitting_bias("fc1", [1, 2], np.zeros(2, np.float16))
    array([1., 2.], dtype=float16)
    >>> fitting_bias("fc1", [1, 2], None)
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: bias of 'fc1': the layer shows none; leave it out of biases
    """
    if present is None:
        raise no_bias(name)
    return _fitting("bias", name, bias, present.shape, present.dtype if dtype is None else dtype)


def _fitting(what: str, name: str, values: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    given = np.asarray(values)
    if given.shape != shape or given.dtype.kind not in "fiub":
        raise WeightsError(
            f"{what} of {name!r}: expected real numbers of shape {shape}; got {given.dtype} of "
            f"shape {given.shape}"
        )
    rounded = given
    if not (is_handed_over(given) and given.dtype == dtype and given.flags.c_contiguous):
        with np.errstate(over="ignore"):
            rounded = np.array(given, dtype=dtype, order="C")
    by_rows = np.atleast_1d(rounded)
    if not all(np.isfinite(by_rows[rows]).all() for rows in row_blocks(by_rows)):
        raise not_finite(name, rounded.dtype, what)
    return rounded


def exchange_channels(weight: Any, groups: int) -> Any:
    """Exchange the two channel axes within each group, ``(g·a, b, *kernel) -> (g·b, a, *kernel)``.

    That leads from the layout of a transposed convolution, ``(in, out / groups, *kernel)``, to the
    canonical one and back.

    Args:
        weight: A NumPy array or a PyTorch tensor.
        groups: Groups of the convolution.

    >>> exchange_channels(np.zeros((6, 2, 5)), groups=3).shape
    (6, 2, 5)
    >>> exchange_channels(np.zeros((4, 7, 5)), groups=2).shape
    (14, 2, 5)
    """
    first, second, *kernel = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * second, first // groups, *kernel)


def check_floating(name: str, given: Any) -> None:
    """Raise :class:`WeightsError` if an array holds whole numbers, where a model has others.

    >>> check_floating("fc1", np.ones((2, 3)))
    """
    if (dtype := np.asarray(given).dtype).kind in "biu":
        raise whole_numbers(name, dtype)


def whole_numbers(name: str, given: object) -> WeightsError:
    """Return the error for whole numbers, of a type, where a model has floating-point ones."""
    return WeightsError(
        f"expected floating-point numbers for {name!r}, as the model has; got {given}: give the "
        "weights that training started from, and not the integers of a quantised copy"
    )


def no_bias(name: str) -> WeightsError:
    """Return the error for a bias that is given to a layer that shows none."""
    return WeightsError(f"bias of {name!r}: the layer shows none; leave it out of biases")


def not_finite(name: str, dtype: Any, what: str = "weight") -> WeightsError:
    """Return the error for a weight, or a bias, that is not finite in a layer's type."""
    return WeightsError(
        f"{what} of {name!r}: expected numbers that are finite in {dtype}; got NaN, infinity or "
        "numbers out of its range; convert the model to a wider type first"
    )
