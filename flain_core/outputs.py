"""Reads a classifier's scores: as logits or as probabilities, of how many classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from .binomial import standard_error
from .errors import DataError
from .network import Array
from .score_checks import check_classes, check_finite, check_numbers, check_shape, has_one
from .settings import one_of

Outputs = Literal["logits", "probabilities"]

OUTPUTS: tuple[Outputs, ...] = get_args(Outputs)
"""The kinds of scores that a classifier can give."""

_SUM_TO_ONE = 1e-3
_STATED_SUM_TO_ONE = 1e-2  # who states it may have computed in half precision before
_PROBABILITY_ERROR = 1e-6  # more than float32 errs in `of_true_class`
_DECIDED = 0.98  # of the samples, where a probability was rounded to 0 or 1
_UNSURE = 0.75  # beside how often a model is right
_HALF = 0.5
_FAR_TOO_MANY = 0.25
_FAR_APART = 60  # e**-60 counts as 0; e**60 of many classes still sum in float32


@dataclass(frozen=True)
class Reading:
    """A way to read the scores of a classifier: recognised where that is safe, or stated.

    Attributes:
        outputs: ``"logits"``, whose softmax gives the probabilities, or ``"probabilities"``.
        single: The model gives one score per sample, ``(n,)`` or ``(n, 1)``, for classes 0 and 1:
            the probability of class 1, or its logit against class 0.
        stated: The caller stated the outputs; otherwise they were recognised.
        doubtful: Read as logits, although all scores of several classes lie in [0, 1].
        classes: How many classes the scores tell apart; 0 where no scores were seen.
        decided: Nearly every probability is 0 or 1, so far apart are the scores.
        confidence: Mean probability that is given to the class that a sample is taken for.
        excess: ``(classes,)`` the share of the samples that is taken for each class, less the share
            that is of it; empty where no labels were seen.

    Example:
        >>> reading = Reading.of(np.array([[-1.5], [0.5]]))
        >>> reading.outputs, reading.single
        ('logits', True)
        >>> by_class = reading.by_class(np.array([[-1.5], [0.5]]))
        >>> by_class
        array([[ 0. , -1.5],
               [ 0. ,  0.5]])
        >>> reading.of_true_class(by_class, np.array([0, 1])).round(3)
        array([0.818, 0.622])
    """

    outputs: Outputs
    single: bool
    stated: bool
    doubtful: bool = False
    classes: int = field(default=0, compare=False, repr=False)
    decided: bool = field(default=False, compare=False, repr=False)
    confidence: float = field(default=math.nan, compare=False, repr=False)
    excess: Array = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    @classmethod
    def of(cls, scores: Array, stated: Outputs | None = None, y: Array | None = None) -> Reading:
        """Recognise what the scores of the trained model are, or check what was stated.

        Rows in [0, 1] that sum to one within 0.001 (in half precision within 0.008) are
        probabilities. One score per sample is a probability where all lie in [0, 1]: as logits they
        would put no sample in class 0. All else are logits.

        Args:
            scores: ``(n, classes)`` with at least 2 classes, ``(n, 1)`` or ``(n,)``; n at least 1.
            stated: ``"logits"`` or ``"probabilities"``; None recognises them. Stated probabilities
                may sum to one within 0.01.
            y: ``(n,)`` class indices, if known.

        Raises:
            SettingsError: ``stated`` is something else.
            ModelError: The network did not score with an array of floating-point numbers.
            DataError: There are no scores, they have another shape or are not finite, or are
                stated to be probabilities and are none; a label is none of the classes.

        Example:
            >>> Reading.of(np.array([[0.9, 0.1], [0.2, 0.8]])).outputs
            'probabilities'
            >>> Reading.of(np.array([[0.9, 0.1], [0.2, 0.8]]), "logits").outputs
            'logits'
        """
        if stated is not None:
            one_of(stated, OUTPUTS, "outputs")
        check_numbers(scores)
        check_shape(scores, len(scores), has_one(scores))
        if not scores.size:
            raise DataError("expected the scores of at least one sample; got none")
        check_finite(scores)
        single = has_one(scores)
        classes = 2 if single else scores.shape[1]
        if stated == "probabilities":
            _check_probabilities(scores, single)
        inside = _outside(scores) is None
        alike = inside and (single or _off_one(scores) <= _tolerance(scores, _SUM_TO_ONE))
        outputs = stated or ("probabilities" if alike else "logits")
        reading = cls(
            outputs,
            single,
            stated=stated is not None,
            doubtful=stated is None and inside and not alike,
            classes=classes,
            decided=_are_decided(scores, outputs),
        )
        by_class = reading.by_class(scores)
        taken_for = by_class.argmax(axis=1)
        excess = np.zeros(0)
        if y is not None:
            check_classes(by_class, y)
            taken, own = (np.bincount(each, minlength=classes) for each in (taken_for, y))
            excess = (taken - own) / len(scores)
        return replace(
            reading,
            confidence=float(reading.of_true_class(by_class, taken_for).mean()),
            excess=excess,
        )

    @property
    def note(self) -> str | None:
        """Note on what was recognised; None for the ordinary case of several logits."""
        if self.stated:
            return None
        if self.single and self.outputs == "logits":
            return (
                "the model gives one score per sample; as some are below 0 or above 1, it was read "
                "as the logit of class 1 against class 0"
            )
        if self.single:
            return (
                "the model gives one score per sample; as all are from 0 to 1, it was read as the "
                'probability of class 1. If it is a logit, state outputs="logits"'
            )
        if self.outputs == "probabilities":
            return (
                "the model's scores were read as probabilities: they are from 0 to 1, and those of "
                'each sample sum to one. If they are logits, state outputs="logits"'
            )
        if self.doubtful:
            return (
                "the model's scores are from 0 to 1, but those of a sample do not sum to one, as "
                "with one sigmoid for each class; they were read as logits, and the probabilities "
                "that follow differ little from class to class. If logits is right, state "
                'outputs="logits"; if they are probabilities, let the model divide those of each '
                'sample by their sum and state outputs="probabilities"'
            )
        return None

    def is_unsure(self, accuracy: float) -> bool:
        """Return whether a model is much less sure than it is right.

        Its probabilities then hardly fall where its accuracy does.

        Args:
            accuracy: The share of the samples, read here, that it is right about.
        """
        return self.confidence < _UNSURE * accuracy

    def favoured(self, right: float, count: int) -> int | None:
        """Return the class that a model takes far too many samples for; None where there is none.

        Those are a quarter of all samples and luck more than are of that class, by a model that is
        right about fewer than half. Inputs that are unlike those of training often end in one
        class, and say nothing of what others lose.

        Args:
            right: The share of the samples, read here, that it is right about.
            count: Number of samples.

        Example:
            >>> scores = np.array([[3.0, 0.0, 9.0], [0.0, 1.0, 0.0]] * 50)
            >>> reading = Reading.of(scores, y=np.array([0, 1] * 50))
            >>> reading.favoured(0.5, 100), reading.favoured(0.0, 100)
            (None, 2)
        """
        if not self.excess.size or right >= _HALF:
            return None
        most = int(self.excess.argmax())
        luck = standard_error(_FAR_TOO_MANY, count)
        return most if self.excess[most] > _FAR_TOO_MANY + luck else None

    def by_class(self, scores: Array) -> Array:
        """Return the scores with one column for each class.

        A single logit z becomes ``[0, z]``, a single probability p becomes ``[1 - p, p]``.

        Args:
            scores: As the network gave them, in a shape that :meth:`of` takes.

        Returns:
            ``(n, classes)`` of the same dtype; the same object if it has those columns already.

        Raises:
            ModelError: The network did not score with an array of floating-point numbers.
            DataError: The scores have a shape that this reading does not fit.

        Example:
            >>> Reading("probabilities", single=True, stated=True).by_class(np.array([0.75, 0.5]))
            array([[0.25, 0.75],
                   [0.5 , 0.5 ]])
        """
        check_numbers(scores)
        check_shape(scores, len(scores), self.single)
        if not self.single:
            return scores
        both = np.zeros((len(scores), 2), dtype=scores.dtype)
        both[:, 1] = scores.reshape(len(scores))
        if self.outputs == "probabilities":
            np.subtract(1, both[:, 1], out=both[:, 0])
        return both

    def of_true_class(self, scores_by_class: Array, y: Array) -> Array:
        """Return the probability that the model gives to each sample's class.

        Of logits the softmax, without overflow and within 1e-6 in any precision; of probabilities
        the entry itself, clipped to [0, 1].

        Args:
            scores_by_class: ``(n, classes)`` as :meth:`by_class` returns them.
            y: ``(n,)`` class indices.

        Returns:
            ``(n,)`` float64.

        Raises:
            ModelError: The scores are no array of floating-point numbers.
            DataError: Scores and labels do not fit each other, or scores are not finite.

        Example:
            >>> reading = Reading("logits", single=False, stated=True)
            >>> reading.of_true_class(np.array([[0.0, 1000.0], [0.0, 0.0]]), np.array([1, 0]))
            array([1. , 0.5])
        """
        check_numbers(scores_by_class)
        check_classes(scores_by_class, y)
        check_finite(scores_by_class)
        own = scores_by_class[np.arange(len(y)), y]
        if self.outputs == "probabilities":
            return own.astype(np.float64).clip(0, 1)
        if scores_by_class.dtype == np.float16:
            scores_by_class, own = scores_by_class.astype(np.float32), own.astype(np.float32)
        # Relative to its own score, so that one exponential per entry and no maximum is needed.
        with np.errstate(over="ignore", under="ignore"):
            odds = scores_by_class - own[:, np.newaxis]
            # A BLAS may complain about infinity, or make it NaN; e**60 is as good.
            np.minimum(odds, _FAR_APART, out=odds)
            np.exp(odds, out=odds)
        # All are finite, but a BLAS may read beyond them and complain of what lies there.
        with np.errstate(invalid="ignore"):
            # As a product: reducing over a short last axis is many times slower.
            total = odds @ np.ones(odds.shape[1], dtype=odds.dtype)
        probability: Array = 1 / total.astype(np.float64)
        return probability

    def uncertainty(self, probability: Array, error: float) -> float:
        """Bound how far the sum of the probabilities is off if the scores are off.

        Probabilities are off by as much as their scores. Of logits, the odds o = p / (1 - p) of a
        class are off by a factor from 1 / f to f, where f = exp(2 * error), or exp(error) for a
        single logit. So p is off by at most ``p(1 - p)(f - 1) / (1 + min(p, 1 - p)(f - 1))``, which
        is reached.

        Args:
            probability: ``(n,)`` as :meth:`of_true_class` returns it.
            error: Each score is off by at most this, in units of the scores; at least 0.

        Returns:
            At least 0 and at most n.

        Raises:
            DataError: ``error`` is negative or no number.

        Example:
            >>> reading = Reading("logits", single=False, stated=True)
            >>> round(reading.uncertainty(np.array([0.5, 0.999]), 0.01), 5)
            0.00502
        """
        if not error >= 0:
            raise DataError(f"expected the scores to be off by at least 0; got {error}")
        if error == 0:
            return 0.0
        n = len(probability)
        if self.outputs == "probabilities":
            return n * min(float(error), 1.0)
        apart = error if self.single else 2 * error
        if apart > 500:
            return float(n)
        growth = math.expm1(apart)
        other = 1 - probability
        # They are rounded themselves. As the bound changes by at most growth / (1 + least * growth)
        # times that error, adding it here is enough.
        least = np.minimum(probability, other)
        moved = (probability * other + _PROBABILITY_ERROR) * growth / (1 + least * growth)
        return float(np.minimum(moved, 1).sum())


def _are_decided(scores: Array, outputs: Outputs) -> bool:
    if outputs == "probabilities":
        decided = (scores == 0) | (scores == 1)
        return bool(decided.reshape(len(scores), -1).all(axis=1).mean() >= _DECIDED)
    if has_one(scores):
        return bool(np.median(np.abs(scores)) > _FAR_APART)
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    with np.errstate(over="ignore"):
        return bool(np.median(first - second) > _FAR_APART)


def _check_probabilities(scores: Array, single: bool) -> None:
    otherwise = 'State outputs="logits" if they are logits'
    outside = _outside(scores)
    if outside is not None:
        raise DataError(
            "expected probabilities, from 0 to 1, as stated; the model gave a score of "
            f"{outside:.6g}. {otherwise}"
        )
    off = 0.0 if single else _off_one(scores)
    if off > _tolerance(scores, _STATED_SUM_TO_ONE):
        raise DataError(
            "expected probabilities that sum to one in each sample, as stated; the model gave "
            f"scores whose sum is off by {off:.3g}. {otherwise}; if each class has a sigmoid of "
            "its own, let the model divide the scores of each sample by their sum"
        )


def _outside(scores: Array) -> float | None:
    """Return the score farthest outside [0, 1]; None if all are inside but for rounding."""
    least, most = float(scores.min()), float(scores.max())
    rounding = 4 * float(np.finfo(scores.dtype).eps)
    if -least <= rounding and most - 1 <= rounding:
        return None
    return least if -least > most - 1 else most


def _off_one(scores: Array) -> float:
    """Return how far from one the scores of a sample sum at most."""
    return float(np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max())


def _tolerance(scores: Array, least: float) -> float:
    return max(least, 8 * float(np.finfo(scores.dtype).eps))
