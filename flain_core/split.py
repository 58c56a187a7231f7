"""Divides the auxiliary samples by what they are used for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import DataError
from .promise import samples_needed
from .samples import Samples
from .settings import Settings

__all__ = ["Parts", "split"]

_MOST_SEARCHING = 1024
_HELD_BACK = 0.2
_MOST_HELD_BACK = 0.6
_ENOUGH_TO_HOLD_BACK = 200


@dataclass(frozen=True, eq=False)
class Parts:
    """The auxiliary samples, divided at random.

    Attributes:
        searching: Samples that show how clean data activates a layer, and decide when to stop. More
            than some thousand would cost time and hardly change what is found.
        held_back: Samples that bear out a promise; None for none.
    """

    searching: Samples
    held_back: Samples | None = None


def split(samples: Samples, settings: Settings, seed: int) -> Parts:
    """Divide samples as settings say, with every choice made.

    Raises:
        DataError: There are too few samples to divide.
    """
    if settings.measure == "score":
        return Parts(samples)
    count = len(samples)
    held_back = _held_back(count, settings)
    if held_back >= count:
        raise DataError(
            f"expected more auxiliary samples than the {held_back} that are held back; got {count}"
        )
    if not held_back:
        return Parts(samples)
    shuffled = np.random.default_rng(seed).permutation(count)
    return Parts(samples[np.sort(shuffled[held_back:])], samples[np.sort(shuffled[:held_back])])


def _held_back(count: int, settings: Settings) -> int:
    share = settings.held_back
    if share is None and settings.promise is not None:
        needed = samples_needed(settings.promise, settings.confidence, allowed=1)
        share = min(max(needed / count, _HELD_BACK), _MOST_HELD_BACK)
    if share is None:
        share = _HELD_BACK if count >= _ENOUGH_TO_HOLD_BACK else 0.0
    return max(round(share * count), count - _MOST_SEARCHING) if share else 0
