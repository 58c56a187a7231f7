"""Recognises numbers that look like those of pixels that nobody scaled."""

from __future__ import annotations

import numpy as np

from flain_core.network import Array

__all__ = ["PixelLook"]

_DARK, _BRIGHTEST = 30, 255


class PixelLook:
    """Whether one input of all samples is whole numbers up to 255, some large, of a fit type.

    Example:
        >>> look = PixelLook()
        >>> look.see(np.array([0.0, 17.0]))
        >>> look.see(np.array([3.0, 201.0]))
        >>> look.found
        True
    """

    def __init__(self) -> None:
        self._possible = True
        self._brightest: float | None = None

    def see(self, numbers: Array) -> None:
        """Look at the numbers of some more samples; where all are small they say little."""
        if not self._possible or not numbers.size:
            return
        fit = numbers.dtype.kind == "f" or numbers.dtype == np.uint8
        if not fit or numbers.min() < 0:
            self._possible = False
            return
        brightest = float(numbers.max())
        self._brightest = max(self._brightest or 0.0, brightest)
        if brightest > _DARK:
            whole = brightest <= _BRIGHTEST and (numbers == np.floor(numbers)).all()
            self._possible = bool(whole)

    @property
    def found(self) -> bool:
        """Whether all that was seen looks like pixels, if anything was."""
        return self._possible and (self._brightest is None or self._brightest > _DARK)
