"""Orders classes by how much of the update is quiet for them, and divides candidates by that.

A backdoor leads to one class, and what speaks for that is quiet on clean data more than expected
(see :mod:`~flain_core.quiet_excess`). The update is flipped at the full strength in the direction
of the class with the greatest excess. Each of the next three is flipped more weakly than the one
before, as far as its direction is its own. All others, and what speaks for no class, are flipped as
weakly as the fifth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .network import Array

__all__ = ["FURTHEST_BEHIND", "QUIET_AT", "QUIET_BETWEEN_TWO", "ClassDirections"]

FURTHEST_BEHIND = 12
QUIET_AT = 63  # the candidate that says what is quiet: about thrice the inputs' mean variance
_BEHIND_THE_NEXT = 3
_BETWEEN_LEVELS = 6
QUIET_BETWEEN_TWO = QUIET_AT + _BETWEEN_LEVELS  # of a difference of two classes: 34 times
_LEAST_OF_ITS_OWN = 1e-2


@dataclass(frozen=True, eq=False)
class ClassDirections:
    """The directions of the outputs that speak for the classes, and how strongly each is flipped.

    Attributes:
        directions: ``(k, out)`` float64, orthonormal: of each class what it has not in common with
            those before it.
        behind: ``(k,)`` by how many candidates each is flipped more weakly, 0 to 12.
    """

    directions: Array
    behind: Array

    @classmethod
    def of(cls, toward: Array, excess: Array) -> ClassDirections:
        """Order the classes by the excess of their quiet share, the greatest first.

        Args:
            toward: ``(classes, out)`` of length 1, along which outputs the score of each grows.
            excess: ``(classes,)`` how far each stands out by its quiet shares.

        Example:
            >>> ClassDirections.of(np.eye(4), np.array([0.5, 0.8, 0.6, 0.4])).behind
            array([0, 3, 6, 9])
        """
        directions, places = np.empty((0, toward.shape[1])), []
        for place, of_class in enumerate(np.argsort(-excess, kind="stable")):
            own = toward[of_class]
            for _ in range(2):  # the second time takes away what rounding left
                own = own - own @ directions.T @ directions
            size = np.linalg.norm(own)
            if size > _LEAST_OF_ITS_OWN:
                directions = np.vstack([directions, own / size])
                places.append(place)
        return cls(directions, np.minimum(_BEHIND_THE_NEXT * np.array(places), FURTHEST_BEHIND))

    def parts(self, number: int) -> Iterator[tuple[int, Array]]:
        """Yield what a candidate is made of: candidates, and what it takes over of each.

        Only every sixth strength is fitted, whatever is tried, and between two it is interpolated.
        What is taken over is ``(out, out)``; the sum of all is the identity.

        Args:
            number: The candidate, from 1.
        """
        own = _step(number - self.behind)
        rest = _step(number - FURTHEST_BEHIND)
        for step in range(int(np.floor(rest)), int(np.ceil(own.max())) + 1):
            at_rest = _nearness(rest, step)
            differing = _nearness(own, step) - at_rest
            if at_rest or differing.any():
                part = (self.directions.T * differing) @ self.directions
                part[np.diag_indices_from(part)] += at_rest
                yield QUIET_AT + _BETWEEN_LEVELS * step, part


def _step(number: Array | float) -> Array:
    """Return at which step a candidate lies: 0 is :data:`QUIET_AT`, 1 the next that is fitted."""
    step: Array = np.maximum(np.asarray(number) - QUIET_AT, -QUIET_AT) / _BETWEEN_LEVELS
    return step


def _nearness(own: Array, step: int) -> Array:
    """Return how near steps are to one that is fitted, from 0 to 1."""
    near: Array = np.maximum(1 - np.abs(own - step), 0.0)
    return near
