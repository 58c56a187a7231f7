"""What is measured, as functions of predicted classes ``(n,)`` and true classes ``(n,)``.

Shares lie in [0, 1]. NaN where there is no image to measure on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.integer]


def accuracy(predicted: Classes, true: Classes) -> float:
    """ACC on clean images, and RA on triggered ones: the share that is called what it is."""
    return _share(predicted == true)


def attack_success(
    predicted: Classes, true: Classes, wanted: Classes, source: int | None = None
) -> float:
    """ASR: the share of triggered images that are called what the attacker wants them to be.

    Those that are of that class do not count. With ``source``, of that class's images alone.
    """
    counted = true != wanted
    if source is not None:
        counted &= true == source
    return _share(predicted[counted] == wanted[counted])


def defence_effectiveness(
    acc_before: float, acc_after: float, asr_before: float, asr_after: float
) -> float:
    """DER (BackdoorBench): ``(max(0, drop of ASR) - max(0, drop of ACC) + 1) / 2``."""
    return (max(0.0, asr_before - asr_after) - max(0.0, acc_before - acc_after) + 1) / 2


def newly_wrong(before: Classes, after: Classes, true: Classes) -> int:
    """How many images were called right before and are not any more."""
    return int(((before == true) & (after != true)).sum())


def rounds_until(rates: Sequence[float], over: float = 0.8) -> int | None:
    """The first round, counted from 1, whose rate is over the given one; None if there is none."""
    return next((number for number, rate in enumerate(rates, start=1) if rate > over), None)


def _share(hits: npt.NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
