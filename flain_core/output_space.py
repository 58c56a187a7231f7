"""The outputs of a layer as its update uses them: in which directions of theirs it is quiet.

A backdoor adds one pattern of outputs to a layer, at inputs that clean data hardly uses. With the
update ``D`` and its quiet part ``K``, which clean data hardly uses, the share of the update that is
quiet in an output direction ``u`` is ``u K D' u' / u D D' u'``. The generalised eigenvectors of
``K D'`` and ``D D'`` are the directions in which that share is stationary; they divide the update
into parts that have nothing in common. Where the share is greatest, the update is flipped at the
full strength, and elsewhere the more weakly the smaller the share is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .input_space import RATIO
from .network import Array

__all__ = ["FURTHEST_BEHIND", "QUIET_AT", "OutputSpace"]

FURTHEST_BEHIND = 12
QUIET_AT = 57  # the candidate that says what is quiet: a quarter of the inputs' mean variance
_RIDGE = 1e-3
_POWER = 4
_BETWEEN_LEVELS = 6
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class OutputSpace:
    """The output directions of an update, and how strongly each is flipped.

    Attributes:
        into: ``(out, out)`` float64; ``into @ update`` is the update in these directions, one in
            each row, of which each has a squared size of about 1.
        back: ``(out, out)`` float64, the inverse of that.
        greatest: The greatest share of the update that is quiet in a direction, from 0 to about 1.
        shares: ``(out,)`` the share in each direction, as a part of the greatest: at most 1.
    """

    into: Array
    back: Array
    greatest: float
    shares: Array

    @classmethod
    def of(cls, whole: Array, quiet: Array, size: float = 1.0) -> OutputSpace:
        """Find the output directions of an update ``D`` and its quiet part ``K``.

        Args:
            whole: ``D D'`` divided by the square of the size, ``(out, out)`` float64.
            quiet: ``K D'`` likewise.
            size: The largest number in the update, or about that.
        """
        outputs = len(whole)
        size = size * float(whole.trace()) ** 0.5
        whole, quiet = whole / whole.trace(), quiet / whole.trace()
        root = np.linalg.cholesky(whole + _RIDGE / outputs * np.eye(outputs))
        inverse = np.linalg.inv(root)
        share = inverse @ quiet @ inverse.T
        shares, turned = np.linalg.eigh((share + share.T) / 2)
        greatest = max(float(shares.max()), np.finfo(float).tiny)
        return cls(turned.T @ inverse / size, root @ turned * size, greatest, shares / greatest)

    @cached_property
    def behind(self) -> Array:
        """``(out,)``: by how many candidates each direction is flipped more weakly, 0 to 12."""
        return _behind(self.shares)

    def parts(self, number: int) -> Iterator[tuple[int, Array]]:
        """Yield what a candidate is made of: candidates, and how much of each direction they flip.

        Only every sixth strength is fitted, whatever is tried, and between two it is interpolated.
        The parts are ``(out,)``, and their sum is 1 for each direction.

        Args:
            number: The candidate, from 1.
        """
        own = _own_step(number, self.shares)
        for step in range(int(np.floor(own.min())), int(np.ceil(own.max())) + 1):
            weights = _nearness(own, step)
            if weights.any():
                yield QUIET_AT + _BETWEEN_LEVELS * step, weights

    def slopes(self, number: int, level: int) -> Array:
        """``(out, out)``: how one part of a candidate moves with the shares.

        A part is a function of the matrix of shares, which is diagonal in these directions. Adding
        a small matrix to that adds its entries times the slopes to the part (Daleckii and Krein,
        1965).

        Args:
            number: The candidate, from 1.
            level: The candidate that the part is of.
        """
        step = (level - QUIET_AT) // _BETWEEN_LEVELS
        now, less, more = (
            _nearness(_own_step(number, self.shares + moved), step)
            for moved in (0.0, -_ALIKE, _ALIKE)
        )
        steepness = (more - less) / (2 * _ALIKE)
        between = np.subtract.outer(self.shares, self.shares)
        alike = np.abs(between) < _ALIKE
        return np.where(
            alike,
            np.add.outer(steepness, steepness) / 2,
            np.subtract.outer(now, now) / np.where(alike, 1.0, between),
        )


def _behind(shares: Array) -> Array:
    """Return by how many candidates directions are flipped more weakly, by their shares.

    The strength goes with the fourth power of the share.

    >>> _behind(np.array([1.0, RATIO ** (-1 / 4), 0.0])).round(6) + 0.0
    array([ 0.,  1., 12.])
    """
    least = RATIO ** (-FURTHEST_BEHIND / _POWER)
    behind: Array = -_POWER * np.log(np.maximum(shares, least)) / np.log(RATIO)
    return behind


def _own_step(number: int, shares: Array) -> Array:
    """Return at which step each direction is flipped: 0 is :data:`QUIET_AT`, 1 the next level."""
    step: Array = np.maximum(number - _behind(shares) - QUIET_AT, -QUIET_AT) / _BETWEEN_LEVELS
    return step


def _nearness(own: Array, step: int) -> Array:
    """Return how near the steps of directions are to one of those fitted, from 0 to 1."""
    near: Array = np.maximum(1 - np.abs(own - step), 0.0)
    return near
