"""The outputs of a layer as its update uses them: in which directions of theirs it is quiet.

A backdoor adds one pattern of outputs to a layer, at inputs that clean data hardly uses. With the
update ``D`` and its quiet part ``K``, which clean data hardly uses, the share of the update that is
quiet in an output direction ``u`` is ``u K D' u' / u D D' u'``. The generalised eigenvectors of
``K D'`` and ``D D'`` are the directions in which that share is stationary; they divide the update
into parts that have nothing in common. Where the share is greatest, the update is flipped at the
full strength, and elsewhere the more weakly the smaller the share is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .errors import LayerError
from .input_space import RATIO
from .network import Array

__all__ = ["FURTHEST_BEHIND", "QUIET_AT", "OutputSpace"]

FURTHEST_BEHIND = 12
QUIET_AT = 57  # the candidate that says what is quiet: a quarter of the inputs' mean variance
_RIDGE = 1e-3
_POWER = 4
_BETWEEN_LEVELS = 6
_LEVELS_OF_ONE = 4
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class OutputSpace:
    """The output directions of an update, and how strongly each is flipped.

    Attributes:
        into: ``(out, out)`` float64; ``into @ update`` is the update in these directions, one in
            each row, of which each has a squared size of about 1.
        back: ``(out, out)`` float64, the inverse of that.
        shares: ``(out,)``: which share of the update is quiet in each direction, from about 0 to 1.
    """

    into: Array
    back: Array
    shares: Array

    @classmethod
    def of(cls, whole: Array, quiet: Array) -> OutputSpace:
        """Find the output directions of an update ``D`` and its quiet part ``K``.

        Args:
            whole: ``D D'``, ``(out, out)`` float64.
            quiet: ``K D'``, ``(out, out)`` float64.

        Raises:
            LayerError: The update is too large.
        """
        outputs, size = len(whole), float(whole.trace())
        if not size:
            return cls(np.eye(outputs), np.eye(outputs), np.zeros(outputs))
        if not (np.isfinite(size) and np.isfinite(quiet).all()):
            raise LayerError("the weight update is too large to be squared; check both models")
        root = np.linalg.cholesky(whole / size + _RIDGE / outputs * np.eye(outputs))
        inverse = np.linalg.inv(root)
        share = inverse @ (quiet / size) @ inverse.T
        shares, turned = np.linalg.eigh((share + share.T) / 2)
        return cls(turned.T @ inverse / size**0.5, root @ turned * size**0.5, shares)

    @cached_property
    def behind(self) -> Array:
        """``(out,)``: by how many candidates each direction is flipped more weakly, 0 to 12."""
        return self._behind(self.shares)

    def _behind(self, shares: Array) -> Array:
        """The strength goes with the fourth power of the share."""
        greatest = max(float(self.shares.max()), np.finfo(float).tiny)
        relative = np.maximum(shares / greatest, RATIO ** (-FURTHEST_BEHIND / _POWER))
        behind: Array = -_POWER * np.log(relative) / np.log(RATIO)
        return behind

    def parts(self, number: int) -> Iterator[tuple[int, Array]]:
        """Yield what a candidate is made of: candidates, and how much of each direction they flip.

        Only every sixth strength is fitted, whatever is tried, and between two it is interpolated.
        The parts are ``(out,)``, and their sum is 1 for each direction.

        Args:
            number: The candidate, from 1.
        """
        own = _own_level(number, self.behind)
        for step in range(int(np.floor(own.min())), int(np.ceil(own.max())) + 1):
            weights = _nearness(own, step)
            if weights.any():
                yield QUIET_AT + _BETWEEN_LEVELS * step, weights

    @cached_property
    def slopes(self) -> Callable[[int, int], Array]:
        """``(number, level)`` to ``(out, out)``: how a candidate's part moves with what is quiet.

        A part is a function of the matrix of shares, which is diagonal in these directions. Adding
        a small matrix to that adds its entries times the slopes to the part (Daleckii and Krein,
        1965).
        """
        return lru_cache(maxsize=_LEVELS_OF_ONE)(self._slopes)

    def _slopes(self, number: int, level: int) -> Array:
        def weights(shares: Array) -> Array:
            step = (level - QUIET_AT) // _BETWEEN_LEVELS
            return _nearness(_own_level(number, self._behind(shares)), step)

        least = _ALIKE * max(float(np.abs(self.shares).max()), np.finfo(float).tiny)
        steepness = (weights(self.shares + least) - weights(self.shares - least)) / (2 * least)
        between = np.subtract.outer(self.shares, self.shares)
        alike = np.abs(between) < least
        now = weights(self.shares)
        return np.where(
            alike,
            np.add.outer(steepness, steepness) / 2,
            np.subtract.outer(now, now) / np.where(alike, 1.0, between),
        )


def _own_level(number: int, behind: Array) -> Array:
    """Return at which level each direction is flipped, counted from :data:`QUIET_AT`."""
    level: Array = np.maximum(number - behind - QUIET_AT, -QUIET_AT) / _BETWEEN_LEVELS
    return level


def _nearness(own: Array, step: int) -> Array:
    """Return how near each direction's level is to one of those fitted, from 0 to 1."""
    near: Array = np.maximum(1 - np.abs(own - step), 0.0)
    return near
