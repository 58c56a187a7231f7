"""Purify something before training starts, so that bad input fails then and not hours later."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord

import flain_core as flain
from flain_core.network import Array

from .records import to_arrays, to_record

_NUDGE = 2.0**-7
_ONE_THRESHOLD = flain.Grid(start=0.0, step=1.0, stop=0.0)


def rehearse(
    purify: Callable[..., Any], initial_arrays: ArrayRecord, settings: flain.Settings
) -> None:
    """Purify the initial model, slightly changed, at a single threshold.

    Costs a few passes over the data and answers every question but one, how well the trained model
    will do: whether the arrays fit the model, the layers exist, the data can be scored.

    Raises:
        FlainError: As the real call would.
    """
    arrays = to_arrays(initial_arrays, "initial_arrays")
    changed = {name: _nudged(array) for name, array in arrays.items()}
    with warnings.catch_warnings():
        # They would speak of a model that nobody trained.
        warnings.simplefilter("ignore", flain.FlainWarning)
        purify(
            initial_arrays,
            to_record(changed, like=initial_arrays),
            settings=dataclasses.replace(settings, thresholds=_ONE_THRESHOLD),
            progress=False,
        )


def _nudged(array: Array) -> Array:
    """Return the array with each number a little larger, as far from overflow as before."""
    if array.dtype.kind != "f":
        return array
    nudged: Array = np.where(array == 0, _NUDGE**2, array * (1 + _NUDGE)).astype(array.dtype)
    return nudged
