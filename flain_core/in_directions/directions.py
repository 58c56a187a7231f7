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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from flain_core.blocks import column_blocks, handed_over, largest_of
from flain_core.errors import LayerError
from flain_core.flipping import check_range
from flain_core.flipping_order import FlippingOrder
from flain_core.network import Array, Layer, Network
from flain_core.updates import norm

from .class_directions import (
    FURTHEST_BEHIND,
    QUIET_AT,
    QUIET_BETWEEN_TWO,
    class_directions,
    parts_of,
)
from .fits import Fits
from .input_space import CANDIDATES, InputSpace
from .quiet_excess import quiet_excess
from .votes import standing_by_votes, votes_of, weights_of


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
            ``(n,)`` to which of these classes each sample belongs, -1 to none of them; and
            ``(classes,)`` their labels. What the update says for the class that stands out most is
            flipped most strongly, and for the next by how far it stands behind. None flips all
            outputs alike.
    """

    network: Network
    layer: Layer
    initial: Array
    factor: float
    space: InputSpace
    classes: tuple[Array, Array, Array] | None = None

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
        toward, _ = self._foremost
        return toward[0] if len(toward) else None

    @property
    def first_class(self) -> int | None:
        """Label of the class for which that speaks; None for two, as it speaks for both at once."""
        if self.classes is None or len(self._foremost[0]) < 2:
            return None
        return int(self.classes[2][self._standing.argmax()])

    def class_share(self, number: int) -> float | None:
        """Return the share that a candidate flips of what the update says for that class."""
        _, says = self._of_classes
        if not len(says):
            return None
        flipped = np.zeros_like(says[:1])
        every = slice(0, says.shape[1])
        for level, share, shares in self._parts(number) if number else ():
            if taken_over := share + shares[0]:
                solved = self._solved_of_classes(level)[:, :1]
                flipped += taken_over * self._fits.ridge(level).flipped(says[:1], solved, every)
        return (norm(flipped) / max(norm(says[:1]), np.finfo(float).tiny)) ** 2

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
        toward, _ = self._of_classes
        taken = np.zeros((len(self.space.centred), len(self.layer.weight)))
        taken_of_classes = np.zeros((len(taken), len(toward)))
        for level, share, shares in self._parts(number):
            for outputs, some in self._fits.taken(level, unseen=unseen) if share else ():
                taken[:, outputs] += share * some
            if shares.any():
                solved = self._solved_of_classes(level)
                taken_of_classes += shares * self._fits.taken_by(solved, level, unseen=unseen)
        taken += taken_of_classes @ toward
        taken *= self.factor
        return taken

    def change(self, number: int) -> Array:
        """``(out, in)``: what a candidate, not 0, takes from the weight."""
        return np.concatenate([change for _, change in self.changes(number)], axis=1)

    def changes(self, number: int) -> Iterator[tuple[slice, Array]]:
        """Yield some columns at a time what a candidate, not 0, takes from the weight."""
        toward, says = self._of_classes
        change_of_classes, of_all = np.zeros_like(says), []
        for level, share, shares in self._parts(number):
            ridge = self._fits.ridge(level)
            if share:
                of_all.append((share, ridge, self._fits.solved(level)))
            if shares.any():
                solved = self._solved_of_classes(level)
                every = slice(0, says.shape[1])
                change_of_classes += shares[:, np.newaxis] * ridge.flipped(says, solved, every)
        for columns in column_blocks(self.layer.weight):
            update = self._fits.update(np.s_[:, columns])
            change = toward.T @ change_of_classes[:, columns]
            for share, ridge, solved in of_all:
                change += share * ridge.flipped(update, solved, columns)
            change *= self.factor
            yield columns, change

    def _parts(self, number: int) -> Iterator[tuple[int, float, Array]]:
        """Yield what a candidate takes over of fits: of all outputs, and of the classes' own."""
        toward, behind = self._foremost
        if len(toward):
            yield from parts_of(behind, number)
        else:
            yield number, 1.0, behind

    @cached_property
    def _foremost(self) -> tuple[Array, Array]:
        """As :func:`class_directions` returns them; none where all outputs are flipped alike."""
        if self.classes is None:
            return np.zeros((0, len(self.layer.weight))), np.zeros(0)
        return class_directions(self.classes[0], self._standing)

    @cached_property
    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
    def _standing(self) -> Array:
        """``(classes,)`` how far each class stands out: the sum of three measures."""
        assert self.classes is not None  # noqa: S101  else nobody asks
        final, (toward, of_sample, _) = self.layer.weight, self.classes
        blocks = [(columns, np.s_[:, columns]) for columns in column_blocks(final)]
        size = max(largest_of(self._fits.update(block)) for _, block in blocks)
        if not np.isfinite(size):
            raise LayerError("the weight update is too large; check both models")
        levels = QUIET_AT, QUIET_BETWEEN_TWO
        ridges = [self._fits.ridge(level) for level in levels]
        roots = [self._fits.root(level) for level in levels]
        targets = [np.zeros((len(root), len(toward))) for root in roots]
        whole = np.zeros((len(toward), len(toward)))
        moved = np.zeros((len(self.space.centred), len(toward)))
        how_quiet, votes = self.space.quiet, np.zeros(len(toward))
        weights = np.zeros_like(how_quiet)
        for columns, block in blocks:
            # The square of a weight may be too small or too large for a float64.
            says = toward @ self._fits.update(block) / size
            for place, (ridge, root) in enumerate(zip(ridges, roots, strict=True)):
                targets[place] += ridge.target(says, columns, root)
            whole += says @ says.T
            weights[columns] = weights_of(says, how_quiet[columns])
            votes += votes_of(says, weights[columns])
            active, ours = self.space.active_in(columns)
            moved += self.space.centred[:, ours] @ says[:, active].T
        solutions = [
            ridge.solved(target, root)
            for ridge, root, target in zip(ridges, roots, targets, strict=True)
        ]
        del roots
        quiet = np.zeros((len(levels), *whole.shape))
        for columns, block in blocks:
            says = toward @ self._fits.update(block) / size
            for place, (ridge, solved) in enumerate(zip(ridges, solutions, strict=True)):
                flipped = ridge.flipped(says, solved, columns)
                quiet[place] += flipped @ flipped.T
        by_sample = moved.reshape(-1, self.space.positions, len(toward)).mean(axis=1)
        excess = quiet_excess(quiet, whole, by_sample, of_sample)
        standing: Array = excess + standing_by_votes(votes, weights)
        return standing

    @cached_property
    def _of_classes(self) -> tuple[Array, Array]:
        """``(k, out)`` the foremost classes' directions; ``(k, in)`` what is said for them."""
        (toward, _), final = self._foremost, self.layer.weight
        says = np.zeros((len(toward), final.shape[1]))
        for columns in column_blocks(final) if len(toward) else ():
            says[:, columns] = toward @ self._fits.update(np.s_[:, columns])
        return toward, says

    def _solved_of_classes(self, level: int) -> Array:
        """``(n * positions, k)``: a fit's solution for what the update says for the classes."""
        if level not in self._solutions_of_classes:
            _, says = self._of_classes
            self._solutions_of_classes[level] = self._fits.solution(says, level)
        return self._solutions_of_classes[level]

    @cached_property
    def _solutions_of_classes(self) -> dict[int, Array]:
        return {}

    @cached_property
    def _fits(self) -> Fits:
        return Fits(self.layer, self.initial, self.space)


Flipping: TypeAlias = FlippingOrder | Directions
"""One layer of a network whose update is to be flipped, candidate by candidate."""


def _fitted(array: Array, like: Array) -> Array:
    with np.errstate(over="ignore"):
        fitted: Array = array.astype(like.dtype)
    check_range(fitted, "the purified layer")
    return fitted
