"""Reading the weight of a layer, and making a kernel of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from flain_core.errors import WeightsError
from flain_core.network import Array

from ._catalogue import Entry
from ._engine import as_array, dtype_of
from ._kinds import kernel_of

__all__ = ["array_in", "kernel_for", "weight_in"]


def array_in(tensor: Any) -> Array:
    """A copy of a tensor, of its type; float32 for bfloat16, which NumPy lacks."""
    array = as_array(tensor)
    return array.astype(np.float16) if dtype_of(tensor) == "float16" else array


def weight_in(entry: Entry, kernel: Any) -> Array:
    """The weight ``(out, in / groups, *kernel)`` in a kernel tensor, read only."""
    weight = entry.kind.canonical(array_in(kernel))
    weight.flags.writeable = False
    return weight


def kernel_for(name: str, entry: Entry, weight: Array) -> Any:
    """Make a kernel tensor of a weight, rounded once to the layer's type.

    Raises:
        WeightsError: The weight does not fit the layer, or is not finite in its type.
    """
    variable = kernel_of(entry.layer)
    expected = weight_in(entry, variable.value).shape
    if np.shape(weight) != expected:
        raise WeightsError(
            f"the weight of layer {name!r} must have shape {expected}, not {np.shape(weight)}"
        )
    wide = np.float64 if variable.dtype == "float64" else np.float32
    with np.errstate(over="ignore"):
        given = np.ascontiguousarray(entry.kind.keras_layout(np.asarray(weight).astype(wide)))
    kernel = ops.cast(ops.convert_to_tensor(given), variable.dtype)
    if not np.isfinite(as_array(kernel)).all():
        raise WeightsError(
            f"the weight for layer {name!r} is not finite in {variable.dtype}: it holds NaN or "
            "numbers out of range; convert the model to a wider type first"
        )
    return kernel
