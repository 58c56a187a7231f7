"""The error function, which NumPy lacks."""

from __future__ import annotations

import math

import numpy as np

from flain_core.network import Array

# Beyond 6 the error function is 1 to double precision. With a power of two as their number, the
# distance to the nearest node has no rounding error.
_LIMIT = 6
_NODES_PER_UNIT = 1024
_NODES = np.arange(_LIMIT * _NODES_PER_UNIT + 1) / _NODES_PER_UNIT
_VALUES = np.array([math.erf(node) for node in _NODES])
_SLOPES = 2 / math.sqrt(math.pi) * np.exp(-(_NODES**2))


def erf(x: Array) -> Array:
    """Return the error function of each float32 or float64 number of ``x``.

    Taylor's series of second order around the nearest of 6,145 tabulated nodes: the error is below
    5e-11, or half a unit in the last place where that is more.

    >>> erf(np.array([-1.0, 0.0, 0.5])).round(6)
    array([-0.842701,  0.      ,  0.5205  ])
    """
    magnitude = np.abs(x)
    # fmin gives NaN a node too; it comes back in with the distance.
    node = np.rint(np.fmin(magnitude, _LIMIT) * _NODES_PER_UNIT)
    index = node.astype(np.intp)
    node /= _NODES_PER_UNIT
    distance = np.minimum(magnitude, _LIMIT) - node
    values, slopes = (table.astype(x.dtype).take(index) for table in (_VALUES, _SLOPES))
    signed: Array = np.copysign(values + slopes * distance * (1 - node * distance), x)
    return signed
