"""Finds the axis of an input that samples lie along, where it is not the first.

Samples always come as ``(n, ...)``. A recurrent network takes its state as ``(layers, n, ...)``,
and many a model a number that is the same for all samples, such as a sampling rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ValueInfoProto

from flain_core.errors import ModelError
from flain_core.network import Array

FIRST = 0


def axis_of(name: str, value: ValueInfoProto, given: Array, free: bool) -> int | None:
    """Return along which axis a model takes samples of an input; None if it takes no more than one.

    Args:
        name: The input's name, for messages.
        value: The input.
        given: What samples hold for it, ``(n, ...)``.
        free: Whether the first axis of another input is free.

    Raises:
        ModelError: It takes one number or array for all samples, and theirs differ.
    """
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return FIRST
    axes = kind.shape.dim
    sizes = tuple(int(axis.dim_value) for axis in axes)
    if given.shape[1:] == sizes and (free or not sizes):
        if (given != given[:1]).any():
            raise ModelError(
                f"the model takes the input {name!r} once for all samples; expected the same for "
                "each of them; got different ones"
            )
        return None
    return 1 if free and len(sizes) > 1 and sizes[0] > 0 >= sizes[1] else FIRST


def has_free_batch(inputs: Mapping[str, ValueInfoProto]) -> bool:
    """Return whether some input takes any number of samples along its first axis."""
    shapes = (value.type.tensor_type.shape.dim for value in inputs.values())
    return any(shape and shape[0].dim_value <= 0 for shape in shapes)


def placed(array: Array, axis: int | None) -> Array:
    """Turn ``(n, ...)`` into what the model takes."""
    if axis is None:
        return np.ascontiguousarray(array[0])
    return array if axis == FIRST else np.ascontiguousarray(np.moveaxis(array, 0, axis))
