"""Lets quiet inputs vote for the classes that an update speaks for where they are active.

Where a few inputs have most of the weight, as among the pixels of a small image, they may agree by
chance, and the votes count for little.
"""

from __future__ import annotations

import numpy as np

from flain_core.network import Array

from .quiet_excess import standing_out

_VOTES = (2, 1, 1)  # for the first choice, the second and the third
_FEW, _SHARPLY = 16, 4
_TINY = float(np.finfo(float).tiny)


def weights_of(said: Array, quiet: Array) -> Array:
    """Return ``(in,)`` what the votes of each input weigh.

    That is the length of what is said there for all classes, times how quiet the input is.

    Args:
        said: ``(classes, in)`` what the update says for each class where an input is active.
        quiet: ``(in,)`` how quiet inputs are, from 0 to 1.
    """
    weights: Array = quiet * np.linalg.norm(said, axis=0)
    return weights


def votes_of(said: Array, weights: Array) -> Array:
    """Let each quiet input vote for the three classes that the update speaks for most there.

    The first of them gets two votes, the others one each. A class that the update does not speak
    for gets none; of equal ones the first come first.

    Args:
        said: ``(classes, in)`` as :func:`weights_of` takes it.
        weights: ``(in,)`` what a vote of each input weighs.

    Returns:
        ``(classes,)`` the sum of the votes.

    Example:
        >>> said = np.array([[9.0, 4.0, 0.0], [5.0, 2.0, 1.0], [2.0, 4.0, 0.0]])
        >>> votes_of(said, weights_of(said, np.array([0.0, 0.5, 1.0])))
        array([6., 5., 3.])
    """
    votes, left, columns = np.zeros(len(said)), said.copy(), np.arange(said.shape[1])
    for count in _VOTES:
        chosen = left.argmax(axis=0)
        given = np.where(left[chosen, columns] > 0, count * weights, 0.0)
        votes += np.bincount(chosen, given, minlength=len(said))
        left[chosen, columns] = -np.inf
    return votes


def standing_by_votes(votes: Array, weights: Array) -> Array:
    """Return how far each class stands out by votes, less where few inputs decide.

    ``n`` inputs of one weight count in full if they are many, half if they are 16. Inputs of
    several weights count as ``(sum of weights)^2 / (sum of their squares)``, as they do in a
    weighted mean.

    Args:
        votes: ``(classes,)`` as :func:`votes_of` returns them, summed over all inputs.
        weights: ``(in,)`` of all inputs.

    Returns:
        ``(classes,)`` in standard deviations from the mean.

    Example:
        >>> votes = np.array([9.0, 1.0, 1.0, 1.0])
        >>> np.array([standing_by_votes(votes, np.ones(n))[0] for n in (4, 16, 64)]).round(2)
        array([0.01, 0.87, 1.73])
    """
    # A small spread would be taken for rounding.
    beside_most = votes / max(votes.max(), _TINY)
    beside_heaviest = weights / max(weights.max(), _TINY)
    squares = np.square(beside_heaviest).sum()
    if not squares:
        return np.zeros_like(votes)
    count = beside_heaviest.sum() ** 2 / squares
    standing: Array = standing_out(beside_most) / (1 + (_FEW / count) ** _SHARPLY)
    return standing
