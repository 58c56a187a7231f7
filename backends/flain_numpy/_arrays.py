"""Keeping parameters: copied once, read only ever after."""

from __future__ import annotations

from typing import Any

import numpy as np

from flain_core.blocks import handed_over, is_handed_over
from flain_core.errors import ModelError
from flain_core.network import Array


def frozen(values: Any) -> Array:
    """Return a read-only copy in native byte order; or the array itself, where it is one already.

    Arrays keep their float type; integers and plain Python numbers become float32.

    >>> frozen([1, 2]).dtype, frozen(np.ones(2)).dtype
    (dtype('float32'), dtype('float64'))
    """
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise ModelError(f"expected an array of numbers; got {type(values).__name__}") from error
    if given.dtype.kind not in "fiub":
        raise ModelError(f"expected an array of real numbers; got one of {given.dtype}")
    keeps_type = given.dtype.kind == "f" and hasattr(values, "dtype")
    kept = given.dtype.newbyteorder("=") if keeps_type else np.dtype(np.float32)
    if given.dtype == kept and given.flags.c_contiguous and is_handed_over(given):
        return given
    return handed_over(np.array(given, kept, order="C"))


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as people write it.

    >>> shape_text((64, 1568))
    '64×1568'
    """
    return "×".join(map(str, shape)) or "()"
