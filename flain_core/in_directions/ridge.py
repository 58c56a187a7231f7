"""Fits any update to a layer's inputs at one strength, and leaves each sample in turn out of it.

Leaving a sample out divides its residual by 1 minus its leverage (Allen's PRESS, 1974). A sample
of several rows has a matrix of leverages over its rows, and they are left out together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from flain_core.blocks import column_blocks, row_blocks
from flain_core.errors import LayerError
from flain_core.network import Array

from .input_space import InputSpace

__all__ = ["Ridge", "inverse_of_lower", "without_each"]

_LEAST_KEPT = 1e-3
_SMALL_BLOCK = 48


@dataclass(frozen=True, eq=False)
class Ridge:
    """What a strength ``s`` flips of any update ``D`` of a layer's inputs: ``s D (C + s I)^-1``.

    Woodbury's identity lets a matrix over the samples be inverted, or over inputs. The smaller of
    the two is, so that the cost grows with the larger number only linearly.

    Attributes:
        space: How clean samples use the layer's inputs.
        strength: ``s``, in units of the inputs' variance.
        weight: ``(k,)`` the inverse of each active input's share in the diagonal of ``C + s I``.
        solver: ``(n * positions, n * positions)`` the inverse of a triangle, or ``(k, k)`` all of
            what an update is multiplied by before the inputs are.
        without: What leaves each sample out, as :func:`without_each` returns it.
    """

    space: InputSpace
    strength: float
    weight: Array
    solver: Array
    without: Array

    @classmethod
    def of(cls, space: InputSpace, strength: float, *, bias: bool) -> Ridge:
        """Fit at a strength; where there is a bias, the mean is one more regressor."""
        centred = space.centred
        share_of_mean = 1 / len(centred) if bias else 0.0
        without = partial(without_each, positions=space.positions, share_of_mean=share_of_mean)
        weight = 1 / (space.shrinkage * space.variance[space.active] + strength)
        root_of_weight = space.scale * np.sqrt(weight)
        if _over_samples(space):
            inner = np.eye(len(centred))
            for some in column_blocks(centred):
                rows = centred[:, some] * root_of_weight[some]
                inner += rows @ rows.T
            root = inverse_of_lower(np.linalg.cholesky(inner))
            return cls(space, strength, weight, root, without(root.T, one_less=True))
        rows = centred * root_of_weight
        inner = rows.T @ rows
        np.fill_diagonal(inner, inner.diagonal() + 1)
        root = inverse_of_lower(np.linalg.cholesky(inner))
        for some in row_blocks(rows):
            rows[some] = rows[some] @ root.T
        left_out = without(rows, one_less=False)
        del rows
        between = np.sqrt(weight)[:, np.newaxis] * (root.T @ root) * root_of_weight
        return cls(space, strength, weight, between, left_out)

    @property
    def nbytes(self) -> int:
        """Bytes of what was computed, beside the space."""
        return self.weight.nbytes + self.solver.nbytes + self.without.nbytes

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def target(self, update: Array, columns: slice) -> Array:
        """Return what some columns of an update ``(rows, columns)`` add to what is solved for."""
        active, ours = self.space.active_in(columns)
        if _over_samples(self.space):
            weighted = update[:, active] * (self.space.scale * self.weight[ours])
            return self.space.centred[:, ours] @ weighted.T
        target: Array = update[:, active] @ self.solver[ours]
        return target

    @np.errstate(over="ignore", invalid="ignore")
    def solved(self, target: Array) -> Array:
        """``(n * positions, rows)`` for the sum of an update's targets.

        With it, the other methods say what is taken from samples and from the update.

        Raises:
            LayerError: It is not finite.
        """
        if _over_samples(self.space):
            solved: Array = self.solver.T @ (self.solver @ target)
        else:
            solved = self.space.centred @ target.T
        if not np.isfinite(solved).all():
            raise LayerError(
                "what the weight update adds is not finite: weights are too large beside the "
                "layer's inputs; check both models and the data"
            )
        return solved

    def taken(self, solved: Array, *, unseen: bool) -> Array:
        """``(n * positions, rows)``: what is taken from what the update adds to each sample.

        Args:
            solved: As :meth:`solved` returns it.
            unseen: Judge each sample as if it had had no part in the fit.
        """
        size = self.strength / self.space.scale
        if not unseen:
            return solved * size
        if self.without.ndim == 1:
            return solved * (size * self.without)[:, np.newaxis]
        taken: Array = self.without @ solved.reshape(*self.without.shape[:2], -1)
        taken *= size
        return taken.reshape(solved.shape)

    def flipped(self, update: Array, solved: Array, columns: slice) -> Array:
        """``(rows, columns)``: what is flipped of some columns of an update.

        Inputs that never vary are flipped wholly.
        """
        active, ours = self.space.active_in(columns)
        spared = solved.T @ self.space.centred[:, ours]
        spared *= self.space.scale
        flipped = update.copy()
        flipped[:, active] -= spared
        flipped[:, active] *= self.strength * self.weight[ours]
        return flipped


def _over_samples(space: InputSpace) -> bool:
    """Whether a matrix over the samples is inverted; else one over the active inputs is."""
    samples, inputs = space.centred.shape
    return bool(samples <= inputs)


def without_each(factors: Array, *, positions: int, share_of_mean: float, one_less: bool) -> Array:
    """Return by what a solution is multiplied to leave each sample out: 1 over what it keeps.

    Args:
        factors: ``(n * positions, k)``, one row for each row of a sample; their products are the
            leverages.
        positions: How many rows each sample has.
        share_of_mean: What the mean, as one more regressor, adds to each product of rows.
        one_less: Whether the products of the factors are 1 minus the leverages instead.

    Returns:
        ``(n,)``, at most 1000; ``(n, positions, positions)`` for samples of several rows.

    Example:
        >>> factors = np.array([[0.6], [0.8]])
        >>> without_each(factors, positions=1, share_of_mean=0, one_less=False)
        array([1.5625    , 2.77777778])
    """
    if positions == 1:
        products = np.einsum("ij,ij->i", factors, factors)
        kept = (products if one_less else 1 - products) - share_of_mean
        without: Array = 1 / np.maximum(kept, _LEAST_KEPT)
        return without
    by_sample = factors.reshape(-1, positions, factors.shape[1])
    of_sample: Array = by_sample @ by_sample.swapaxes(1, 2)
    one = np.eye(positions)
    # In place, as with many positions this is larger than all else.
    if not one_less:
        np.subtract(one, of_sample, out=of_sample)
    of_sample += _LEAST_KEPT * one - share_of_mean
    for kept in of_sample:
        kept[...] = np.linalg.inv(kept)
    return of_sample


def inverse_of_lower(lower: Array) -> Array:
    """Return the inverse of a lower triangular matrix, in a sixth of what ``inv`` computes.

    >>> inverse_of_lower(np.array([[2.0, 0.0], [1.0, 4.0]]))
    array([[ 0.5  ,  0.   ],
           [-0.125,  0.25 ]])
    """
    half = len(lower) // 2
    if half < _SMALL_BLOCK:
        inverted: Array = np.linalg.inv(lower)
        return inverted
    first, last = inverse_of_lower(lower[:half, :half]), inverse_of_lower(lower[half:, half:])
    inverse = np.zeros_like(lower)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = -last @ (lower[half:, :half] @ first)
    return inverse
