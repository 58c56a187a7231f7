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

That is so where it is not known how the outputs move the scores. Elsewhere the strength differs
between the classes that they speak for: see :mod:`~flain_core.in_directions.class_directions`. A
candidate is then made of several such weights. The sample that judges it is left out of each,
though not of what orders the classes.

A layer may see a sample several times, as a transformer's do once for each token. Each sight is
then a row of ``X``, and what was fitted without a sample is fitted without all of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np

from flain_core.blocks import column_blocks, handed_over, is_small, largest_of, row_blocks
from flain_core.errors import LayerError
from flain_core.flipping import check_range
from flain_core.flipping_order import FlippingOrder
from flain_core.network import Array, Layer, Network

from .class_directions import (
    FURTHEST_BEHIND,
    QUIET_AT,
    QUIET_BETWEEN_TWO,
    class_directions,
    parts_of,
)
from .input_space import CANDIDATES, InputSpace
from .quiet_excess import quiet_excess, standing_out
from .ridge import inverse_of_lower, kept_of_each, left_out
from .votes import votes_of

__all__ = ["Directions", "Flipping"]

_BYTES_OF_FITS = 64 * 2**20

Fit: TypeAlias = "tuple[Array, Array, Array]"
"""A candidate's weight of each input, its solution, and what samples keep of it, which is what
:func:`left_out` takes."""


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
        classes: ``(classes, out)`` along which outputs the score of each class grows, of length 1;
            and ``(n,)`` to which of these classes each sample belongs, -1 to none of them. What the
            update says for the class that stands out most is flipped most strongly, and for the
            next by how far it stands behind. None flips all outputs alike.
    """

    network: Network
    layer: Layer
    initial: Array
    factor: float
    space: InputSpace
    classes: tuple[Array, Array] | None = None

    @property
    def strengths(self) -> Array:
        """``(candidates,)`` ascending, in units of the inputs' variance.

        The last flips every output at the strongest strength, those that lie furthest behind too.
        """
        count = CANDIDATES + (0 if self.classes is None else FURTHEST_BEHIND)
        return np.array([self.space.strength(number) for number in range(1, count + 1)])

    @property
    def first(self) -> Array | None:
        """``(out,)`` along which the update is flipped most strongly; None where all are alike."""
        return None if self._foremost is None else self._foremost[0][0]

    def candidate(self, number: int) -> Network:
        """Return a copy of the network with a candidate's weight and bias.

        Raises:
            WeightsError: They leave the range of the layer's type.
        """
        layer = self.layer
        if not number:
            return self.network.replace({layer.name: layer.weight})
        weight = np.empty(layer.weight.shape, layer.weight.dtype)
        moved = np.zeros(len(weight))
        for columns, change in self.changes(number):
            weight[:, columns] = _fitted(layer.weight[:, columns] - change, weight)
            moved += change @ self.space.mean[columns]
        weights = {layer.name: handed_over(weight)}
        if layer.bias is None:
            return self.network.replace(weights)
        bias = _fitted(layer.bias + moved, layer.bias)
        return self.network.replace(weights, {layer.name: bias})

    def taken(self, number: int, *, unseen: bool = False) -> Array:
        """``(n * positions, out)``: what a candidate, not 0, takes from the pre-activations.

        Args:
            number: The candidate.
            unseen: Judge each sample as if it had had no part in the fit.
        """
        if self._foremost is None:
            return self._taken_at(number, unseen=unseen)
        taken = np.zeros((len(self.space.centred), len(self.layer.weight)))
        for level, part in parts_of(*self._foremost, number):
            taken += self._taken_at(level, unseen=unseen) @ part.T
        return taken

    def _taken_at(self, number: int, *, unseen: bool) -> Array:
        """``(n * positions, out)``: what is taken where all outputs are flipped alike."""
        _, solved, kept = self._solved(number)
        size = self.factor * self.space.strength(number) / self._scale
        return left_out(solved, kept, size) if unseen else solved * size

    def change(self, number: int) -> Array:
        """``(out, in)``: what a candidate, not 0, takes from the weight."""
        return np.concatenate([change for _, change in self.changes(number)], axis=1)

    def changes(self, number: int) -> Iterator[tuple[slice, Array]]:
        """Yield some columns at a time what a candidate, not 0, takes from the weight.

        Inputs that never vary are flipped wholly.
        """
        if self._foremost is None:
            weight, solved, _ = self._solved(number)
            for columns in column_blocks(self.layer.weight):
                update = self._update(np.s_[:, columns])
                yield columns, self._flipped(number, weight, solved, update, columns)
            return
        parts = [(*part, *self._solved(part[0])) for part in parts_of(*self._foremost, number)]
        for columns in column_blocks(self.layer.weight):
            update = self._update(np.s_[:, columns])
            change = np.zeros_like(update)
            for level, part, weight, solved, _ in parts:
                change += part @ self._flipped(level, weight, solved, update, columns)
            yield columns, change

    def _flipped(
        self, number: int, weight: Array, solved: Array, update: Array, columns: slice
    ) -> Array:
        """``(out, columns)``: what is taken from columns of an update, alike in all its rows."""
        active, ours = self._active_in(columns)
        change = self.factor * update
        spared = solved.T @ self.space.centred[:, ours]
        spared *= self.factor * self._scale
        change[:, active] -= spared
        change[:, active] *= self.space.strength(number) * weight[ours]
        return change

    @cached_property
    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def _foremost(self) -> tuple[Array, Array] | None:
        """As :func:`class_directions` returns them; None where all outputs are flipped alike."""
        if self.classes is None:
            return None
        (toward, of_sample), final = self.classes, self.layer.weight
        blocks = [(columns, np.s_[:, columns]) for columns in column_blocks(final)]
        size = max(largest_of(self._update(block)) for _, block in blocks)
        if not np.isfinite(size):
            raise LayerError("the weight update is too large; check both models")
        quiet_at = QUIET_AT, QUIET_BETWEEN_TWO
        # The square of a weight may be too small or too large for a float64.
        fits = [
            (level, weight, solved @ toward.T / size)
            for level in quiet_at
            for weight, solved, _ in [self._solved(level)]
        ]
        whole = np.zeros((len(toward), len(toward)))
        quiet = np.zeros((len(fits), *whole.shape))
        moved = np.zeros((len(self.space.centred), len(toward)))
        how_quiet, votes = self.space.quiet, np.zeros(len(toward))
        for columns, block in blocks:
            update = toward @ self._update(block) / size
            whole += update @ update.T
            votes += votes_of(update, how_quiet[columns])
            for place, fit in enumerate(fits):
                flipped = self._flipped(*fit, update, columns) / self.factor
                quiet[place] += flipped @ flipped.T
            active, ours = self._active_in(columns)
            moved += self.space.centred[:, ours] @ update[:, active].T
        by_sample = moved.reshape(-1, self.space.positions, len(toward)).mean(axis=1)
        excess = quiet_excess(quiet, whole, by_sample, of_sample)
        # A small spread would be taken for rounding.
        beside_most = votes / max(votes.max(), np.finfo(float).tiny)
        return class_directions(toward, excess + standing_out(beside_most))

    def _active_in(self, columns: slice) -> tuple[Array | slice, slice]:
        """Return which of some columns are active, and where these lie among all that are."""
        first, last = np.searchsorted(self.space.active, (columns.start, columns.stop))
        if last - first == columns.stop - columns.start:
            return slice(None), slice(first, last)  # as that makes no copy
        return self.space.active[first:last] - columns.start, slice(first, last)

    def _update(self, block: tuple[slice, slice]) -> Array:
        """Return float64 what training added to some rows and columns of the weight."""
        if self._kept_update is not None:
            return self._kept_update[block]
        update: Array = np.subtract(self.layer.weight[block], self.initial[block], dtype=np.float64)
        return update

    @cached_property
    def _kept_update(self) -> Array | None:
        """What training added to the whole weight, if that is small; else None."""
        final = self.layer.weight
        if not is_small(final.size * np.dtype(np.float64).itemsize):
            return None
        update: Array = np.subtract(final, self.initial, dtype=np.float64)
        return update

    @property
    def _active(self) -> Array | slice:
        """The active inputs; as a slice where all are, as that makes no copy."""
        space = self.space
        return space.active if space.active.size < space.variance.size else slice(None)

    @property
    def _scale(self) -> float:
        scale: float = ((1 - self.space.shrinkage) / len(self.space.centred)) ** 0.5
        return scale

    @cached_property
    def _fits(self) -> dict[int, Fit]:
        return {}

    def _solved(self, number: int) -> Fit:
        """Return a candidate's fit; those made last are kept, as far as they are small."""
        fits = self._fits
        if number not in fits:
            # Each row has its outputs, and what its sample keeps of each of its rows.
            numbers = len(self.layer.weight) + self.space.positions
            size = len(self.space.centred) * numbers * 8
            while (len(fits) + 1) * size > _BYTES_OF_FITS and fits:
                del fits[next(iter(fits))]
            fits[number] = self._fit(number)
        return fits[number]

    def _fit(self, number: int) -> Fit:
        """Woodbury's identity lets a matrix over the samples be inverted, or over inputs.

        The smaller of the two is, so that the cost grows with the larger number only linearly.
        """
        space = self.space
        share_of_mean = 1 / len(space.centred) if self.layer.bias is not None else 0.0
        kept_of = partial(kept_of_each, positions=space.positions, share_of_mean=share_of_mean)
        variance = space.shrinkage * space.variance[space.active]
        weight = 1 / (variance + self.space.strength(number))
        root_of_weight = self._scale * np.sqrt(weight)
        if space.centred.shape[0] <= space.centred.shape[1]:
            target = self._from_update(lambda update: update * (self._scale * weight))
            inner = np.eye(len(target))
            for some in column_blocks(space.centred):
                rows = space.centred[:, some] * root_of_weight[some]
                inner += rows @ rows.T
            root = inverse_of_lower(np.linalg.cholesky(inner))
            kept = kept_of(root.T, one_less=True)
            return weight, root.T @ (root @ target), kept
        rows = space.centred * root_of_weight
        inner = rows.T @ rows
        np.fill_diagonal(inner, inner.diagonal() + 1)
        root = inverse_of_lower(np.linalg.cholesky(inner))
        for some in row_blocks(rows):
            rows[some] = rows[some] @ root.T
        kept = kept_of(rows, one_less=False)
        del rows
        between = np.sqrt(weight)[:, np.newaxis] * (root.T @ root) * root_of_weight
        return weight, self._from_update(lambda update: update @ between), kept

    def _from_update(self, made: Callable[[Array], Array]) -> Array:
        """``(n * positions, out)``: the inputs times what is made of the update, row by row."""
        final = self.layer.weight
        products = np.empty((len(self.space.centred), len(final)))
        for rows in row_blocks(final):
            update = self._update(np.s_[rows, :])[:, self._active]
            products[:, rows] = self.space.centred @ made(update).T
        return products


Flipping: TypeAlias = FlippingOrder | Directions
"""One layer of a network whose update is to be flipped, candidate by candidate."""


def _fitted(array: Array, like: Array) -> Array:
    with np.errstate(over="ignore"):
        fitted: Array = array.astype(like.dtype)
    check_range(fitted, "the purified layer")
    return fitted
