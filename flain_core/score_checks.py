"""Refuses scores that are no numbers or have another shape, and labels that do not fit them."""

from __future__ import annotations

import numpy as np

from .errors import DataError, ModelError
from .network import Array

LABELS_ARE_PLACES = (
    "Labels are the places of the classes in the model's scores: subtract 1 from those that begin "
    "at 1; others become places by np.searchsorted(classes, y), with the model's classes in the "
    "order of its scores. For another task than classification give a score function (score=, in "
    "Python)"
)
"""What a message says where labels are no classes."""


def has_one(scores: Array) -> bool:
    """Return whether there is one score for each sample, ``(n,)`` or ``(n, 1)``."""
    return scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)


def check_numbers(scores: Array) -> None:
    """Raise :class:`ModelError` unless a network scored with floating-point numbers."""
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or not scores.ndim:
        raise ModelError(
            "expected the network to score with a NumPy array of real floating-point numbers; "
            f"got {getattr(scores, 'dtype', type(scores).__name__)}"
        )


def check_shape(scores: Array, n: int, single: bool) -> None:
    """Raise :class:`DataError` unless scores are ``(n, classes)``, or one for each if single."""
    fits = has_one(scores) if single else scores.ndim == 2 and scores.shape[1] >= 2
    if not fits or len(scores) != n:
        raise DataError(
            f"accuracy needs one score per class: expected scores of shape ({n}, classes) "
            f"with at least 2 classes, or of shape ({n},) or ({n}, 1) from a model with one output "
            f"for classes 0 and 1; the model gave {scores.shape}. For another kind of output "
            "give a score function (score=, in Python), which returns each sample's worth from "
            "(scores, y)"
        )


def check_classes(scores: Array, y: Array) -> None:
    """Raise :class:`DataError` unless scores are ``(n, classes)`` and fit the labels ``(n,)``."""
    check_shape(scores, len(y), single=False)
    if y.size:
        check_label(int(y.max()), scores.shape[1])


def check_label(greatest: int, classes: int) -> None:
    """Raise :class:`DataError` if the greatest label is none of the classes that are scored."""
    if greatest >= classes:
        raise DataError(
            f"expected labels from 0 to {classes - 1}, as the model scores {classes} classes; got "
            f"{greatest}. {LABELS_ARE_PLACES}"
        )


def check_finite(scores: Array) -> None:
    """Raise :class:`DataError` if a score is NaN or infinite."""
    if not np.isfinite(scores).all():
        raise DataError("the model's scores hold NaN or infinity; check its weights and the data")
