"""Lets quiet inputs vote for the classes that an update speaks for where they are active."""

from __future__ import annotations

import numpy as np

from flain_core.network import Array

__all__ = ["votes_of"]

_VOTES = (2, 1, 1)  # for the first choice, the second and the third


def votes_of(said: Array, quiet: Array) -> Array:
    """Let each quiet input vote for the three classes that the update speaks for most there.

    The first of them gets two votes, the others one each. A class that the update does not speak
    for gets none; of equal ones the first come first.

    Args:
        said: ``(classes, in)`` what the update says for each class where an input is active.
        quiet: ``(in,)`` how quiet inputs are, from 0 to 1.

    Returns:
        ``(classes,)`` the sum of the votes. Each weighs the length of what is said there for all
        classes, times how quiet the input is.

    Example:
        >>> said = np.array([[9.0, 4.0, 0.0], [5.0, 2.0, 1.0], [2.0, 4.0, 0.0]])
        >>> votes_of(said, np.array([0.0, 0.5, 1.0]))
        array([6., 5., 3.])
    """
    weights = quiet * np.linalg.norm(said, axis=0)
    votes, left, columns = np.zeros(len(said)), said.copy(), np.arange(said.shape[1])
    for count in _VOTES:
        chosen = left.argmax(axis=0)
        given = np.where(left[chosen, columns] > 0, count * weights, 0.0)
        votes += np.bincount(chosen, given, minlength=len(said))
        left[chosen, columns] = -np.inf
    return votes
