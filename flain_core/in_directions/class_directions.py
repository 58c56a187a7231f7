"""Orders classes by how far they stand out, and divides candidates by that.

A backdoor leads to one class. What speaks for that is quiet on clean data more than is usual
(:mod:`.quiet_excess`), and quiet inputs vote for it (:mod:`.votes`). The update is flipped at the
full strength in the direction of the class that stands out most by both. The attacker's class may
be the second instead; the closer the two stand, the more likely that is. If they tie, the second is
flipped as strongly as the first, along whatever of its direction the first does not share. If the
first leads clearly, the second is flipped no more than the rest: at less than a hundredth of the
strength, which leaves nearly all of the tolerance to these two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flain_core.network import Array

FURTHEST_BEHIND = 12
QUIET_AT = 63  # the candidate that says what is quiet: about thrice the inputs' mean variance
_BEHIND_PER_DEVIATION = 5.0  # candidates, for each standard deviation of the lead
_BETWEEN_LEVELS = 6
QUIET_BETWEEN_TWO = QUIET_AT + _BETWEEN_LEVELS  # of a difference of two classes: 34 times
_LEAST_OF_ITS_OWN = 1e-2


def class_directions(toward: Array, standing: Array) -> tuple[Array, Array]:
    """Return the directions of the outputs that speak for the two classes that stand out most.

    Args:
        toward: ``(classes, out)`` along which outputs the score of each grows.
        standing: ``(classes,)`` how far each stands out: the sum of three measures, each in
            standard deviations.

    Returns:
        ``(2, out)`` float64, orthonormal: of the second class what it has not in common with the
        first; and ``(2,)`` by how many candidates each lies behind. ``(1, out)`` and ``(1,)`` where
        the second has next to nothing of its own.

    Example:
        >>> found, behind = class_directions(np.eye(4), np.array([0.5, 2.8, 2.6, 0.4]))
        >>> found.argmax(axis=1), behind.round(1)
        (array([1, 2]), array([0., 1.]))
    """
    order = np.argsort(-standing, kind="stable")
    lead = np.ptp(standing[order[:2]])
    behind = np.array([0.0, min(_BEHIND_PER_DEVIATION * lead, FURTHEST_BEHIND)])
    ordered = toward[order]
    first = ordered[:1] / np.linalg.norm(ordered[0])
    second = ordered[1:2] - ordered[1:2] @ first.T @ first
    size = np.linalg.norm(second, axis=1, keepdims=True)
    own = second[size[:, 0] > _LEAST_OF_ITS_OWN]
    directions = np.vstack([first, own / size[: len(own)]])
    return directions, behind[: len(directions)]


def parts_of(behind: Array, number: int) -> Iterator[tuple[int, float, Array]]:
    """Yield what a candidate is made of: candidates, and what it takes over of each.

    Only every sixth strength is fitted, whatever is tried, and between two it is interpolated.

    Args:
        behind: ``(k,)`` by how many candidates the direction of each class lies behind, as
            :func:`class_directions` returns it.
        number: The candidate, from 1.

    Yields:
        A candidate; the share of all outputs that is taken over of it; and ``(k,)`` the shares of
        the classes' directions beyond that, -1 to 1. The shares of all outputs add up to 1, those
        of a direction to 0.

    Example:
        >>> list(parts_of(np.array([0.0]), 57))
        [(45, 1.0, array([-1.])), (57, 0.0, array([1.]))]
    """
    own = _step(number - behind)
    rest = _step(number - FURTHEST_BEHIND)
    for step in range(int(np.floor(rest)), int(np.ceil(own.max())) + 1):
        at_rest = float(_nearness(rest, step))
        differing = _nearness(own, step) - at_rest
        if at_rest or differing.any():
            yield QUIET_AT + _BETWEEN_LEVELS * step, at_rest, differing


def _step(number: Array | float) -> Array:
    """Return at which step a candidate lies: 0 is :data:`QUIET_AT`, 1 the next that is fitted."""
    step: Array = np.maximum(np.asarray(number) - QUIET_AT, -QUIET_AT) / _BETWEEN_LEVELS
    return step


def _nearness(own: Array, step: int) -> Array:
    """Return how near steps are to one that is fitted, from 0 to 1."""
    near: Array = np.maximum(1 - np.abs(own - step), 0.0)
    return near
