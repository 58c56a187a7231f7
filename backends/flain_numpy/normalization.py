"""Batch normalization with frozen statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

from .arrays import frozen


@dataclass(frozen=True, eq=False, repr=False)
class BatchNorm:
    """``(x − mean) / sqrt(variance + epsilon) · scale + shift`` per channel, ``(n, C, ...)``.

    Attributes:
        mean: ``(C,)``, the running mean.
        variance: ``(C,)``, the running variance.
        scale: ``(C,)``, or None for 1.
        shift: ``(C,)``, or None for 0.
        epsilon: Added to the variance.

    >>> norm = BatchNorm(np.array([1.0, 0.0]), np.array([4.0, 1.0]), epsilon=0.0)
    >>> norm(np.array([[3.0, 5.0]]))
    array([[1., 5.]])
    """

    mean: Array
    variance: Array
    scale: Array | None = None
    shift: Array | None = None
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "scale", "shift"):
            values = getattr(self, name)
            if values is not None or name in ("mean", "variance"):
                values = frozen(values)
                object.__setattr__(self, name, values)
                if values.ndim != 1 or values.shape != self.mean.shape:
                    channels = self.mean.shape if self.mean.ndim == 1 else "(C,)"
                    raise ModelError(
                        f"{name} of a BatchNorm: expected shape {channels}; got {values.shape}"
                    )
        if not isinstance(self.epsilon, (int, float)) or not 0 <= self.epsilon < math.inf:
            raise ModelError(f"epsilon: expected a number of at least 0; got {self.epsilon!r}")

    def __repr__(self) -> str:
        return f"BatchNorm({self.mean.size} channels)"

    def __call__(self, x: Array) -> Array:
        """Map ``(n, C, ...)`` to the same shape."""
        if x.ndim < 2 or x.shape[1] != self.mean.size:
            raise ValueError(f"expected (n, {self.mean.size}, ...); got {x.shape}")
        factor = 1 / np.sqrt(self.variance + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale
        offset = -self.mean * factor
        if self.shift is not None:
            offset = offset + self.shift
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        result: Array = x * factor.reshape(per_channel) + offset.reshape(per_channel)
        return result
