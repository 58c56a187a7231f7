"""Finds the classes for which more of what an update says is quiet than is usual.

A backdoor leads to one class: training added to the layer what speaks for that class, at inputs
that clean data hardly uses. So more of what the update says for it is quiet. That is so of a class
that is hard to learn as well: what training remembers of single samples is quiet too. Two reasons
for a great share are therefore taken into account: that the update hardly moves the score, and that
the score tells the samples of the class badly from others. What is usual with either was chosen on
models that are in no table; it explains an eighth of a share at most, so that a class that is far
harder than the rest may still come first.

The outputs move the score of a class along ``g``, so ``g D`` is what the update ``D`` says for it.
With the quiet part ``K`` of the update, ``|g K|^2 / |g D|^2`` is the share that is quiet. Shares
are measured for each class and for pairs of classes, where ``g`` is the difference of their two
directions; each class is paired with ten others at most. What training remembers of a hard class
sets it apart from the few that resemble it; what a backdoor adds sets its class apart from every
other. So the mean over the pairs of a class is taken as it is.
"""

from __future__ import annotations

import numpy as np

from flain_core.errors import LayerError
from flain_core.network import Array

_RIVALS = 10  # each class is compared with so many others, at most
# By how much the logarithm of a share usually changes with those of the two reasons.
_WITH_MOVE, _WITH_BLUR = -0.1, 0.2
_FURTHEST_REASON = 0.4  # in logarithms, from the median: about as far as they usually lie
_LEAST_SHARE = 1e-3  # beside the median: less tells nothing
_ROUNDING = 1e-12  # beside what a difference was taken of
_LEAST_SPREAD = 1e-9  # less is rounding, of logarithms and of votes
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
        ``(classes,)`` the sum of two measures, each in standard deviations from its mean.

    Raises:
        LayerError: What the update says is not finite.

    Example:
        Of four classes that the update says as much for, and that are as hard as each other, half
        of what it says for the third is quiet, and a fifth of the rest.

        >>> quiet = np.diag([0.2, 0.2, 0.5, 0.2])
        >>> scores, of_sample = np.eye(4), np.arange(4)
        >>> int(quiet_excess(np.stack([quiet, quiet]), np.eye(4), scores, of_sample).argmax())
        2
    """
    if not all(np.isfinite(each).all() for each in (quiet, whole, moved)):
        raise LayerError(
            "what the weight update does to the scores is not finite: weights are too large beside "
            "the layer's inputs; check both models and the data"
        )
    usual = _WITH_MOVE * _reason(moved.var(axis=0)) + _WITH_BLUR * _reason(_blur(moved, of_sample))
    alone = _shares(np.diag(quiet[0]), np.diag(whole))
    first, second = _pairs(len(whole))
    of_pairs = _shares(*(_of_differences(each, first, second) for each in (quiet[1], whole)))
    of_class = np.bincount(first, of_pairs, len(whole)) + np.bincount(second, of_pairs, len(whole))
    pairs = np.bincount(np.concatenate([first, second]), minlength=len(whole))
    return standing_out(alone - usual) + standing_out(of_class / np.maximum(pairs, 1))


def _pairs(classes: int) -> tuple[Array, Array]:
    """Return which classes to compare: each with those whose places are next, round in a circle.

    >>> [len(_pairs(classes)[0]) for classes in (2, 10, 11, 12, 1000)]
    [1, 45, 55, 60, 5000]
    """
    first, second = np.triu_indices(classes, 1)
    apart = np.minimum(second - first, classes - (second - first))
    near = 2 * apart <= _RIVALS
    return first[near], second[near]


def _of_differences(products: Array, first: Array, second: Array) -> Array:
    """Return the squares of differences, from the inner products of classes."""
    both = products[first, first] + products[second, second]
    squares: Array = np.maximum(both - 2 * products[first, second], _ROUNDING * both)
    return squares


def _shares(quiet: Array, whole: Array) -> Array:
    """Return the logarithms of shares, from 0 to 1.

    One that is next to nothing has the least of the others: its distance from them would be the
    unit in which theirs are counted.
    """
    shares = quiet / np.maximum(whole, _TINY)
    if not shares.any():
        return np.zeros_like(shares)
    tell = shares > _LEAST_SHARE * np.median(shares)
    logarithms: Array = np.log(np.where(tell, shares, shares[tell].min()))
    return logarithms


def _reason(size: Array) -> Array:
    """Return by how much the logarithms of sizes exceed their median, within bounds."""
    logarithms = np.log(np.maximum(size, _TINY))
    reason: Array = logarithms - np.median(logarithms)
    return np.clip(reason, -_FURTHEST_REASON, _FURTHEST_REASON)


def _blur(moved: Array, of_sample: Array) -> Array:
    """Return ``(classes,)`` 1 minus how well each score tells the samples of its class.

    How well is the correlation with belonging to the class, from -1 to 1.
    """
    own = of_sample[:, np.newaxis] == np.arange(moved.shape[1])
    together = ((moved - moved.mean(axis=0)) * own).mean(axis=0)
    scale = np.sqrt(moved.var(axis=0) * own.var(axis=0))
    tells = np.divide(together, scale, out=np.zeros_like(scale), where=scale > 0)
    blur: Array = 1 - tells
    return blur


def standing_out(measure: Array) -> Array:
    """Return how far each class lies from the mean of a measure, in standard deviations.

    That is 0 where all are alike.

    >>> standing_out(np.array([0.0, 0.0, 0.0, 4.0])).round(1)
    array([-0.6, -0.6, -0.6,  1.7])
    """
    spread = measure.std()
    if not spread > _LEAST_SPREAD:
        return np.zeros_like(measure)
    standing: Array = (measure - measure.mean()) / spread
    return standing
