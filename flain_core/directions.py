"""Flips the weight update in the directions of the input space that clean data hardly uses.

Flipping the update of low-activation neurons is the special case in which the directions are the
axes. With the update ``D = final - initial``, the covariance ``C`` of the layer's inputs over clean
samples and a strength ``s``, the purified weight is ``final - factor * s * D (C + s I)^-1``: in a
direction in which clean inputs have variance ``v``, the share ``s / (v + s)`` of the update is
flipped. It is the weight nearest to the flipped one that also keeps the pre-activations of clean
samples: the minimum of ``||X (W' - final)||^2 / n + s ||W' - flipped||^2`` over ``W'``. The bias
keeps the mean pre-activation. A factor of 2 turns the sign where clean data has no variance, and
flips less than the whole elsewhere; a factor of 3 removes the update already where ``v`` is twice
``s``, so that a backdoor in directions that clean data uses a little goes at a smaller strength.

``C`` is estimated from fewer samples than it has columns. It is shrunk towards its diagonal by the
share that minimises the expected squared error (Schaefer and Strimmer, 2005, target D; after Ledoit
and Wolf, 2004), so that an input which clean data activates is spared even in directions that no
sample happened to show.

A layer may see a sample several times, as a transformer's do once for each token. Each sight is
then a row of ``X``, and what was fitted without a sample is fitted without all of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from .errors import LayerError
from .flipping import FlippingOrder, check_range
from .network import Array, Layer, Network

__all__ = ["Directions", "Flipping", "InputSpace"]

# So weak, as a single input or sample in other units can raise the variance of all.
_WEAKEST, _STRONGEST, _RATIO = 4e-4 * 1.5**-40, 8.0, 1.5
_MOST_SHRUNK = 0.95
_LEAST_KEPT = 1e-3
_SMALL_BLOCK = 48


@dataclass(frozen=True, eq=False)
class InputSpace:
    """The inputs of a layer as clean samples use them.

    Attributes:
        mean: ``(in,)`` float64; zero for a layer without a bias, which cannot keep a mean.
        variance: ``(in,)`` float64.
        active: ``(k,)`` indices of the inputs that vary at all.
        centred: ``(n * positions, k)`` float64, the active inputs less their mean.
        shrinkage: From 0 to 1: share by which the covariance is moved towards its diagonal.
        positions: How often the layer sees a sample.
    """

    mean: Array
    variance: Array
    active: Array
    centred: Array
    shrinkage: float
    positions: int = 1

    @classmethod
    def of(cls, inputs: Array, *, bias: bool) -> InputSpace:
        """Estimate from inputs ``(n, in, *positions)`` of a layer with or without a bias.

        Raises:
            LayerError: The inputs do not vary.
        """
        values = rows_of(np.asarray(inputs, dtype=np.float64))
        positions = len(values) // max(len(inputs), 1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean(axis=0) if bias else np.zeros(values.shape[1])
            deviation = values - mean
            variance = np.square(deviation, out=deviation).mean(axis=0)
            active = np.flatnonzero(variance)
            centred = values[:, active]
            centred -= mean[active]
            shrinkage = _shrinkage(centred, variance[active], positions)
        if not active.size or not np.isfinite([*variance, shrinkage]).all():
            raise LayerError(
                "the inputs of the layer are the same for all samples, or too large; check the "
                "data and the layers before it"
            )
        return cls(mean, variance, active, centred, shrinkage, positions)

    @property
    def strengths(self) -> Array:
        """``(candidates,)`` ascending, in units of the inputs' variance."""
        count = int(np.log(_STRONGEST / _WEAKEST) / np.log(_RATIO)) + 1
        ascending: Array = self.variance.mean() * _WEAKEST * _RATIO ** np.arange(count)
        return ascending


@dataclass(frozen=True, eq=False)
class Directions:
    """One layer of a network, whose update is to be flipped in directions.

    A candidate is a number: 0 is the layer as it stands, ``i`` has the ``i``-th strength.

    Attributes:
        network: The model as it stands.
        layer: A dense layer, with its final weight.
        initial: The layer's initial weight, ``(out, in)``.
        factor: 2 flips an update, 1 resets it, more flips it and enlarges it.
        space: How clean samples use the layer's inputs.
    """

    network: Network
    layer: Layer
    initial: Array
    factor: float
    space: InputSpace

    def candidate(self, number: int) -> Network:
        """Return a copy of the network with a candidate's weight and bias.

        Raises:
            WeightsError: They leave the range of the layer's type.
        """
        layer = self.layer
        if not number:
            return self.network.replace({layer.name: layer.weight})
        change = self.change(number)
        weight = _fitted(layer.weight.astype(np.float64) - change, layer.weight)
        if layer.bias is None:
            return self.network.replace({layer.name: weight})
        bias = _fitted(layer.bias.astype(np.float64) + change @ self.space.mean, layer.bias)
        return self.network.replace({layer.name: weight}, {layer.name: bias})

    def taken(self, number: int, *, unseen: bool = False) -> Array:
        """``(n * positions, out)``: what a candidate, not 0, takes from the pre-activations.

        Args:
            number: The candidate.
            unseen: Judge each sample as if it had had no part in the fit.
        """
        _, solved, left_out = self._solved(number)
        taken = left_out if unseen else solved
        return taken * (self.factor * self._strength(number) / self._scale)

    def change(self, number: int) -> Array:
        """``(out, in)``: what a candidate, not 0, takes from the weight.

        Inputs that never vary are flipped wholly.
        """
        active = self.space.active
        weight, solved, _ = self._solved(number)
        spared = solved.T @ self.space.centred
        spared *= self._scale
        change = self.factor * self.update
        change[:, active] -= self.factor * spared
        change[:, active] *= self._strength(number) * weight
        return change

    @cached_property
    def update(self) -> Array:
        """``(out, in)`` float64: what training added to the weight."""
        final = self.layer.weight.astype(np.float64)
        return final - np.asarray(self.initial, dtype=np.float64)

    def _strength(self, number: int) -> float:
        return float(self.space.strengths[number - 1])

    @property
    def _scale(self) -> float:
        scale: float = ((1 - self.space.shrinkage) / len(self.space.centred)) ** 0.5
        return scale

    @cached_property
    def _fits(self) -> dict[int, tuple[Array, Array, Array]]:
        return {}

    def _solved(self, number: int) -> tuple[Array, Array, Array]:
        """Return a candidate's weight of each input, its solution, and that without each sample.

        Woodbury's identity lets a matrix over the samples be inverted, or over inputs. The smaller
        of the two is, so that the cost grows with the larger number only linearly.
        """
        if number not in self._fits:
            space = self.space
            variance = space.shrinkage * space.variance[space.active]
            weight = 1 / (variance + self._strength(number))
            rows = space.centred * (self._scale * np.sqrt(weight))
            wide = rows.shape[0] <= rows.shape[1]
            inner = rows @ rows.T if wide else rows.T @ rows
            np.fill_diagonal(inner, inner.diagonal() + 1)
            root = inverse_of_lower(np.linalg.cholesky(inner))
            scaled = np.multiply(rows, np.sqrt(weight), out=rows if wide else None)
            target = scaled @ self.update[:, space.active].T
            if wide:
                solved = root.T @ (root @ target)
                left_out = self._left_out(solved, root.T, wide=True)
            else:
                used = rows @ root.T
                solved = target - used @ (used.T @ target)
                left_out = self._left_out(solved, used, wide=False)
            self._fits[number] = weight, solved, left_out
        return self._fits[number]

    def _left_out(self, solved: Array, factors: Array, *, wide: bool) -> Array:
        """Return for each sample what would have been solved without it.

        Leaving a sample out of a ridge regression divides its residual by one less its leverage
        (Allen's PRESS, 1974); the mean counts as one more regressor. For a sample of several rows
        these are matrices over its rows.

        Args:
            solved: ``(n * positions, out)`` with all samples.
            factors: One row for each; their products are the leverages, or if wide one less these.
            wide: See there.
        """
        positions = self.space.positions
        share_of_mean = 1 / len(solved) if self.layer.bias is not None else 0.0
        if positions == 1:
            products = np.square(factors).sum(axis=1)
            kept = (products if wide else 1 - products) - share_of_mean
            alone: Array = solved / np.maximum(kept, _LEAST_KEPT)[:, np.newaxis]
            return alone
        one = np.eye(positions)
        left_out = np.empty_like(solved)
        for start in range(0, len(solved), positions):
            rows = slice(start, start + positions)
            products = factors[rows] @ factors[rows].T
            kept = (products if wide else one - products) - share_of_mean + _LEAST_KEPT * one
            left_out[rows] = np.linalg.solve(kept, solved[rows])
        return left_out


Flipping: TypeAlias = FlippingOrder | Directions
"""One layer of a network whose update is to be flipped, candidate by candidate."""


def rows_of(inputs: Array) -> Array:
    """Return inputs ``(n, in, *positions)`` as rows ``(n * positions, in)``, sample by sample.

    >>> rows_of(np.array([[[1, 2], [3, 4]]]))
    array([[1, 3],
           [2, 4]])
    """
    rows: Array = np.moveaxis(inputs, 1, -1).reshape(-1, inputs.shape[1])
    return rows


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


def _fitted(array: Array, like: Array) -> Array:
    with np.errstate(over="ignore"):
        fitted: Array = array.astype(like.dtype)
    check_range(fitted, "the purified layer")
    return fitted


def _shrinkage(centred: Array, variance: Array, positions: int) -> float:
    """The share of the diagonal that minimises the expected squared error of the covariance.

    The sum over ``i != j`` of the variance of each estimated entry, over the sum of their squares;
    both follow from the samples' inner products. The rows of one sample count as one.
    """
    samples = len(centred) // positions
    if samples < 2:
        return _MOST_SHRUNK
    inner = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    squares = float(np.square(inner, out=inner).sum()) / len(centred) ** 2
    squared = np.square(centred)
    if positions == 1:
        products = squared.sum(axis=1)
    else:
        by_sample = centred.reshape(samples, positions, -1)
        products = by_sample @ by_sample.swapaxes(1, 2) / positions
        squared = squared.reshape(by_sample.shape).mean(axis=1)
    fourth = float(np.square(products).sum()) / samples
    off_diagonal = squares - float(np.square(variance).sum())
    of_entries = (fourth - squares) / samples
    fourth_of_each = float(np.square(squared, out=squared).sum()) / samples
    of_diagonal = (fourth_of_each - float(np.square(variance).sum())) / samples
    if off_diagonal <= 0:
        return _MOST_SHRUNK
    return min(max((of_entries - of_diagonal) / off_diagonal, 0.0), _MOST_SHRUNK)
