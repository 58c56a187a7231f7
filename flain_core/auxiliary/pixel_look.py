"""Recognises numbers that look like those of pixels that nobody scaled."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from flain_core.network import Array

_DARK, _BRIGHTEST = 30, 255


def brightest(numbers: Array) -> float:
    """Return the greatest number, or infinity if the numbers cannot be pixels.

    Pixels are of type float or uint8 and from 0 to 255. They are whole, unless all are so small
    that they say little. Minus infinity where there are no numbers. The greatest of what several
    batches give speaks for all of them.

    >>> [brightest(np.array(numbers)) for numbers in ([3.0, 201.0], [3.0, 201.5], [0.5])]
    [201.0, inf, 0.5]
    """
    if not numbers.size:
        return -math.inf
    fit = numbers.dtype.kind == "f" or numbers.dtype == np.uint8
    if not fit or numbers.min() < 0:
        return math.inf
    greatest = float(numbers.max())
    whole = greatest <= _DARK or (greatest <= _BRIGHTEST and (numbers == np.floor(numbers)).all())
    return greatest if whole else math.inf


def are_pixels(brightest_of_each: Iterable[float]) -> bool:
    """Return whether the brightest number of each input, if it has any, is a pixel's."""
    return all(each == -math.inf or _DARK < each <= _BRIGHTEST for each in brightest_of_each)
