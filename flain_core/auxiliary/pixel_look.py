"""Recognises numbers that look like those of pixels that nobody scaled."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from flain_core.network import Array

__all__ = ["are_pixels", "brightest"]

_DARK, _BRIGHTEST = 30, 255


def brightest(numbers: Array) -> float:
    """Return the greatest of numbers that may be pixels': whole ones up to 255, of a fit type.

    Infinity if they cannot be, -infinity of none. So the greatest over several batches tells of all
    of them. Where all numbers are small they say little, and need not be whole.

    >>> brightest(np.array([3.0, 201.0])), brightest(np.array([3.0, 201.5]))
    (201.0, inf)
    """
    if not numbers.size:
        return -math.inf
    fit = numbers.dtype.kind == "f" or numbers.dtype == np.uint8
    if not fit or numbers.min() < 0:
        return math.inf
    most = float(numbers.max())
    whole = most <= _DARK or (most <= _BRIGHTEST and (numbers == np.floor(numbers)).all())
    return most if whole else math.inf


def are_pixels(brightest_of_each: Iterable[float]) -> bool:
    """Return whether the brightest number of each input, if it has any, is a pixel's."""
    return all(most == -math.inf or _DARK < most <= _BRIGHTEST for most in brightest_of_each)
