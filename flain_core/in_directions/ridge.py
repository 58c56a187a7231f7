"""Fits any update to a layer's inputs at one strength, and leaves each sample in turn out of it.

Leaving a sample out divides its residual by 1 minus its leverage (Allen's PRESS, 1974). A sample
of several rows has a matrix of leverages over its rows, and they are left out together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flain_core.blocks import column_blocks, row_blocks
from flain_core.errors import LayerError
from flain_core.network import Array

from .input_space import InputSpace

_LEAST_KEPT = 1e-3
_SMALL_BLOCK = 48
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Ridge:
    """What a strength ``s`` flips of any update ``D`` of a layer's inputs: ``s D (C + s I)^-1``.

    By Woodbury's identity, either a matrix over the samples or one over the inputs is inverted. It
    is the smaller one, so that the cost grows with the larger number only linearly. What is large
    is made once by the caller and handed in: the :meth:`root`, a solution, and what leaves each
    sample out.

    Attributes:
        space: How clean samples use the layer's inputs.
        strength: ``s``, a variance as the inputs have it.
    """

    space: InputSpace
    strength: float

    def root(self) -> Array:
        """``(m, m)`` the inverse of a Cholesky factor.

        ``m`` is the number of rows or of active inputs, whichever is smaller.
        """
        centred = self.space.centred
        inner = np.eye(min(centred.shape))
        if self._over_samples:
            for some in column_blocks(centred):
                rows = centred[:, some] * self._root_of_weight[some]
                inner += rows @ rows.T
        else:
            # No larger than what is inverted, nor so small that adding up costs more.
            at_once = max(len(inner), _ROWS_AT_ONCE)
            for start in range(0, len(centred), at_once):
                rows = centred[start : start + at_once] * self._root_of_weight
                inner += rows.T @ rows
        lower = np.linalg.cholesky(inner)
        del inner
        return inverse_of_lower(lower)

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def target(self, update: Array, columns: slice, root: Array) -> Array:
        """``(m, rows)``: what some columns of an update ``(rows, columns)`` add to the right side.

        :meth:`solved` takes the sum over all columns.
        """
        active, ours = self.space.active_in(columns)
        if self._over_samples:
            weighted = update[:, active] * (self.space.scale * self._weight[ours])
            return self.space.centred[:, ours] @ weighted.T
        weighted = update[:, active] * np.sqrt(self._weight[ours])
        target: Array = root[:, ours] @ weighted.T
        return target

    @np.errstate(over="ignore", invalid="ignore")
    def solved(self, target: Array, root: Array) -> Array:
        """``(n * positions, rows)`` the solution for an update, which other methods take.

        Raises:
            LayerError: It is not finite.
        """
        if self._over_samples:
            solved: Array = root.T @ (root @ target)
        else:
            inner = (root.T @ target) * self._root_of_weight[:, np.newaxis]
            solved = self.space.centred @ inner
        if not np.isfinite(solved).all():
            raise LayerError(
                "what the weight update adds is not finite: weights are too large beside the "
                "layer's inputs; check both models and the data"
            )
        return solved

    def without(self, root: Array, *, bias: bool) -> Array:
        """Return what leaves each sample out, as :func:`without_each` does.

        Where the layer has a bias, the mean is one more regressor.
        """
        centred, positions = self.space.centred, self.space.positions
        share_of_mean = 1 / len(centred) if bias else 0.0
        if self._over_samples:
            return without_each(
                root.T, positions=positions, share_of_mean=share_of_mean, one_less=True
            )
        samples = len(centred) // positions
        without = np.empty((samples, positions, positions) if positions > 1 else samples)
        for some in row_blocks(without, beside=positions * centred.shape[1]):
            rows = centred[some.start * positions : some.stop * positions]
            without[some] = without_each(
                (rows * self._root_of_weight) @ root.T,
                positions=positions,
                share_of_mean=share_of_mean,
                one_less=False,
            )
        return without

    def taken(self, solved: Array, without: Array | None) -> Array:
        """``(n * positions, rows)``: what is taken from what the update adds to each sample.

        Args:
            solved: The solution for the update.
            without: Leaves each sample out of the fit that judges it; None leaves none out.
        """
        size = self.strength / self.space.scale
        if without is None:
            return solved * size
        if without.ndim == 1:
            return solved * (size * without)[:, np.newaxis]
        taken: Array = without @ solved.reshape(*without.shape[:2], -1)
        taken *= size
        return taken.reshape(solved.shape)

    def flipped(self, update: Array, solved: Array, columns: slice) -> Array:
        """``(rows, columns)``: what is flipped of some columns of an update.

        Inputs that never vary are flipped wholly.

        Args:
            update: These columns of it.
            solved: The solution for the whole update.
            columns: Which they are.
        """
        active, ours = self.space.active_in(columns)
        spared = solved.T @ self.space.centred[:, ours]
        spared *= self.space.scale
        flipped = update.copy()
        flipped[:, active] -= spared
        flipped[:, active] *= self.strength * self._weight[ours]
        return flipped

    @cached_property
    def _weight(self) -> Array:
        """``(k,)`` for each active input ``1 / (shrinkage * variance + s)``."""
        space = self.space
        weight: Array = 1 / (space.shrinkage * space.variance[space.active] + self.strength)
        return weight

    @cached_property
    def _root_of_weight(self) -> Array:
        root: Array = self.space.scale * np.sqrt(self._weight)
        return root

    @property
    def _over_samples(self) -> bool:
        samples, inputs = self.space.centred.shape
        return bool(samples <= inputs)


def without_each(factors: Array, *, positions: int, share_of_mean: float, one_less: bool) -> Array:
    """Return what multiplies a solution to leave each sample out: the inverse of what it keeps.

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
    """Return the inverse of a lower triangular matrix, in a fraction of what ``inv`` computes.

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
