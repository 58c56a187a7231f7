"""Finds the classes for which more of what an update says is quiet than the others suggest.

A backdoor leads to one class: training added to the layer what speaks for that class, at inputs
that clean data hardly uses. So more of what the update says for it is quiet. That is so of a class
that is hard to learn as well: what training remembers of single samples is quiet too. Each share is
therefore compared with what the other classes suggest for it, and the excess counts. Two reasons
for a great share are taken into account: that the update hardly moves the score, and that the score
tells the samples of the class badly from others.

The outputs move the score of a class along ``g``, so ``g D`` is what the update ``D`` says for it.
With the quiet part ``K`` of the update, ``|g K|^2 / |g D|^2`` is the share that is quiet. Shares
are compared of contrasts: of each class with the mean of all, and of two classes, where ``g`` is
the difference of theirs, of each class with ten others at most. What training remembers of a hard
class sets it apart from the few that resemble it; what a backdoor adds sets its class apart from
every other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flain_core.network import Array

__all__ = ["excess_of", "quiet_excess", "standing_out"]

_RIVALS = 10  # each class is compared with so many others, at most
_RIDGE = 1.0  # in contrasts, as reasons have variance 1 over them
_FURTHEST_REASON = 3.0
_LEAST_SHARE = 1e-3  # beside the median: less tells nothing of others
_LEAST_MOVE = 1e-9  # beside the greatest
_LEAST_BLUR = 1e-3
_LEAST_OF_LOGARITHMS = 1e-9
_ROUNDING = 1e-12  # beside what a difference was taken of
_LEAST_SPREAD = 1e-9  # less is rounding, of logarithms, of excesses and of votes
_TINY = float(np.finfo(float).tiny)


def quiet_excess(quiet: Array, whole: Array, moved: Array, of_sample: Array) -> Array:
    """Return how far each class stands out by its quiet shares.

    Args:
        quiet: ``(2, classes, classes)`` the inner products of what the quiet part of the update
            says for classes. The first are for a class beside all others, the second for two.
        whole: ``(classes, classes)`` the same of the whole update.
        moved: ``(n, classes)`` by how much the update moves the score of each class, in units in
            which the outputs move each score alike.
        of_sample: ``(n,)`` to which class each sample belongs; -1 to none of them.

    Returns:
        ``(classes,)`` the sum of two measures, each in standard deviations.
    """
    samples = moved, of_sample
    alone = _excess_of_contrasts(np.arange(len(whole)), None, quiet[0], whole, *samples)
    of_pairs = _excess_of_contrasts(*_pairs(len(whole)), quiet[1], whole, *samples)
    return standing_out(alone) + standing_out(of_pairs)


def _pairs(classes: int) -> tuple[Array, Array]:
    """Return which classes to compare: each with those whose places are next, round in a circle.

    >>> [len(_pairs(classes)[0]) for classes in (2, 10, 11, 12, 1000)]
    [1, 45, 55, 60, 5000]
    """
    first, second = np.triu_indices(classes, 1)
    apart = np.minimum(second - first, classes - (second - first))
    near = 2 * apart <= _RIVALS
    return first[near], second[near]


def _excess_of_contrasts(
    first: Array, second: Array | None, quiet: Array, whole: Array, moved: Array, of_sample: Array
) -> Array:
    """Return ``(classes,)`` by how much the quiet shares of each class's contrasts exceed.

    Args:
        first: ``(contrasts,)`` a class.
        second: ``(contrasts,)`` what it is compared with; None for the mean of all.
        quiet: ``(classes, classes)`` the inner products of what the quiet part says.
        whole: As :func:`quiet_excess` has it.
        moved: So, too.
        of_sample: So, too.
    """
    both_say = np.diag(whole)[first] + (0 if second is None else np.diag(whole)[second])
    says = np.maximum(_squares(whole, first, second), np.maximum(_ROUNDING * both_say, _TINY))
    shares = np.minimum(_squares(quiet, first, second) / says, 1.0)
    moves, blurred = np.empty((2, len(first)))
    for place, one in enumerate(first):
        scores, own = moved[:, one], of_sample == one
        if second is not None:  # two classes are told apart where their samples are
            both = own | (of_sample == second[place])
            scores, own = (scores - moved[:, second[place]])[both], own[both]
        moves[place], blurred[place] = _moves_and_blurred(scores, own)
    still = 1 / np.maximum(moves / max(moves.max(), _TINY), _LEAST_MOVE)
    between = first[:, np.newaxis] == np.arange(len(whole))
    if second is not None:
        between = between | (second[:, np.newaxis] == np.arange(len(whole)))
    return excess_of(shares, [still, blurred], between)


def _squares(products: Array, first: Array, second: Array | None) -> Array:
    """Return the squares of contrasts, from the inner products of classes."""
    squares: Array = products[first, first]
    if second is not None:
        squares = squares + products[second, second] - 2 * products[first, second]
    return np.maximum(squares, 0.0)


def _moves_and_blurred(moved: Array, own: Array) -> tuple[float, float]:
    """Return the variance by which a score moves, and one less how well that tells a class.

    How well is the correlation with belonging to the class, from -1 to 1.

    Args:
        moved: ``(n,)`` by how much the update moves the score of each sample.
        own: ``(n,)`` which samples belong to the class.
    """
    variance, chance = float(moved.var()), float(own.var())
    scale = (variance * chance) ** 0.5
    tells = float(((moved - moved.mean()) * own).mean()) / scale if scale > 0 else 0.0
    return variance, max(1 - tells, _LEAST_BLUR)


def excess_of(shares: Array, reasons: Sequence[Array], between: Array) -> Array:
    """Return by how much the logarithms of a class's shares exceed what the others suggest.

    The logarithms of the shares of contrasts without a class are fitted by those of the reasons, in
    a ridge regression without negative slopes. What its own contrasts exceed is averaged.

    Args:
        shares: ``(contrasts,)`` at least 0.
        reasons: Each ``(contrasts,)`` at least 0, with which shares grow.
        between: ``(contrasts, classes)`` which classes each contrast is between.

    Returns:
        ``(classes,)``; 0 where no contrast is without a class. One whose shares are next to nothing
        has the least of the others, so that it is no measure of how far they lie apart.

    Example:
        Of five classes, each beside all others, the second has the greatest share, as it is the
        hardest; that of the third is great for an easy one.

        >>> hard = np.array([0.01, 0.16, 0.02, 0.08, 0.04])
        >>> shares = np.array([0.20, 0.30, 0.29, 0.26, 0.23])
        >>> int(excess_of(shares, [hard], np.eye(5, dtype=bool)).argmax())
        2
    """
    own = np.log(np.maximum(shares, _LEAST_OF_LOGARITHMS))
    because = np.log(np.maximum(np.stack(reasons, axis=1), _LEAST_OF_LOGARITHMS))
    tells = shares > _LEAST_SHARE * np.median(shares)
    excess = np.zeros(between.shape[1])
    for each, ours in enumerate(between.T):
        others = ~ours & tells if (~ours & tells).any() else ~ours
        if not others.any():
            continue
        mean, spread = because[others].mean(axis=0), because[others].std(axis=0)
        apart = np.divide(
            because - mean, spread, out=np.zeros_like(because), where=spread > _LEAST_SPREAD
        )
        usual = own[others].mean()
        slopes = _slopes(apart[others], own[others] - usual)
        expected = np.clip(apart[ours], -_FURTHEST_REASON, _FURTHEST_REASON) @ slopes
        excess[each] = (own[ours] - usual - expected).mean()
    silent = ~between[tells].any(axis=0)
    if silent.any() and not silent.all():
        excess[silent] = excess[~silent].min()
    return excess


def _slopes(reasons: Array, shares: Array) -> Array:
    """Return the slopes of a ridge regression on one or two reasons, of which none is negative."""
    products, along = reasons.T @ reasons, reasons.T @ shares
    products[np.diag_indices_from(products)] += _RIDGE
    together: Array = np.linalg.solve(products, along)
    if together.min() >= 0:
        return together
    alone = np.maximum(along / products.diagonal(), 0.0)
    return np.where(np.arange(len(alone)) == np.argmax(alone * along), alone, 0.0)


def standing_out(measure: Array) -> Array:
    """Return what each class has of a measure, in standard deviations; 0 where all are alike.

    >>> standing_out(np.array([0.0, 0.0, 0.0, 4.0])).round(1)
    array([0. , 0. , 0. , 2.3])
    """
    spread = measure.std()
    standing: Array = measure / spread if spread > _LEAST_SPREAD else np.zeros_like(measure)
    return standing
