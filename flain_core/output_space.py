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


@dataclass(frozen=True, eq=False)
class OutputSpace:
    """The output directions of an update, and how strongly each is flipped.

    Attributes:
        into: ``(out, out)`` float64; ``into @ update`` is the update in these directions, one in
            each row.
        back: ``(out, out)`` float64, the inverse of that.
        behind: ``(out,)``: by how many candidates each direction is flipped more weakly, from 0 to
            12.
    """

    into: Array
    back: Array
    behind: Array

    @classmethod
    def of(cls, update: Array, quiet: Array) -> OutputSpace:
        """Find the output directions of an update.

        Args:
            update: ``(out, in)`` float64.
            quiet: ``(out, in)`` float64, what of it clean data hardly uses.

        Raises:
            LayerError: The update is too large.
        """
        outputs = len(update)
        with np.errstate(over="ignore", invalid="ignore"):
            whole, part = update @ update.T, quiet @ update.T
            size = float(whole.trace())
        if not size:
            return cls(np.eye(outputs), np.eye(outputs), np.zeros(outputs))
        if not (np.isfinite(size) and np.isfinite(part).all()):
            raise LayerError("the weight update is too large to be squared; check both models")
        root = np.linalg.cholesky(whole / size + _RIDGE / outputs * np.eye(outputs))
        inverse = np.linalg.inv(root)
        share = inverse @ (part / size) @ inverse.T
        shares, turned = np.linalg.eigh((share + share.T) / 2)
        return cls(turned.T @ inverse, root @ turned, _behind(shares))

    def parts(self, number: int) -> Iterator[tuple[int, Array]]:
        """Yield what a candidate is made of: candidates, and what takes the outputs to their part.

        Only every sixth strength is fitted, whatever is tried, and between two it is interpolated.
        The parts are ``(out, out)``, and their sum takes all outputs to themselves.

        Args:
            number: The candidate, from 1.
        """
        own = np.maximum(number - self.behind - QUIET_AT, -QUIET_AT) / _BETWEEN_LEVELS
        for level in range(int(np.floor(own.min())), int(np.ceil(own.max())) + 1):
            weights = np.maximum(1 - np.abs(own - level), 0.0)
            if weights.any():
                yield QUIET_AT + _BETWEEN_LEVELS * level, (self.back * weights) @ self.into


def _behind(shares: Array) -> Array:
    """Return by how many candidates directions are flipped more weakly, by their quiet shares.

    The strength goes with the fourth power of the share.

    Example:
        >>> _behind(np.array([1.0, RATIO ** (-1 / 4), 0.0])).round(6)
        array([ 0.,  1., 12.])
    """
    greatest = max(float(shares.max()), np.finfo(float).tiny)
    relative = np.maximum(shares / greatest, RATIO ** (-FURTHEST_BEHIND / _POWER))
    behind: Array = np.maximum(-_POWER * np.log(relative) / np.log(RATIO), 0.0)
    return behind
