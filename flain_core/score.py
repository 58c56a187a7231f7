"""The worth of samples: top-1 accuracy or a function of the caller's, and how clearly it is so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from .errors import DataError
from .network import Array
from .outputs import Reading
from .score_checks import check_classes, check_finite, check_numbers
from .tallies import Loss, Tally

Score: TypeAlias = Callable[[Array, Array], Array]
"""A function of (scores ``(n, ...)``, y ``(n, ...)``) that gives each sample's worth ``(n,)``,
greater is better."""


def accuracy(scores: Array, y: Array) -> Array:
    """Return which samples are classified right: the greatest of their scores is their class's.

    Args:
        scores: ``(n, classes)``, classes >= 2. Of equal scores the first one counts as greatest.
        y: ``(n,)`` class indices.

    Returns:
        ``(n,)`` boolean.

    Example:
        >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        array([ True, False])
    """
    right: Array = scores.argmax(axis=1) == y
    return right


@dataclass(frozen=True, eq=False)
class Margins:
    """Records which samples are classified right, and how clearly.

    Attributes:
        right: ``(n,)`` boolean.
        margin: ``(n,)`` how far the score of the sample's class is from the greatest of the others.
        magnitude: ``(n,)`` the greatest magnitude of the sample's scores.
        probability: ``(n,)`` float64, what the model gives to the sample's class; empty where that
            is not measured.
    """

    right: Array
    margin: Array
    magnitude: Array
    probability: Array = field(default_factory=lambda: np.zeros(0))

    def __getitem__(self, which: slice) -> Margins:
        return Margins(*(column[which] for column in self._columns))

    @property
    def _columns(self) -> tuple[Array, ...]:
        return self.right, self.margin, self.magnitude, self.probability

    def copy(self) -> Margins:
        """Return margins that stay as they are when these are replaced."""
        return Margins(*(column.copy() for column in self._columns))

    @classmethod
    def joined(cls, parts: Sequence[Margins]) -> Margins:
        """Join the margins of several batches, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part._columns for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    def put(self, samples: Array, others: Margins) -> None:
        """Replace the margins of some samples."""
        self.right[samples] = others.right
        self.margin[samples] = others.margin
        self.magnitude[samples] = others.magnitude
        if len(self.probability):
            self.probability[samples] = others.probability

    def tally(self, window: float) -> Tally:
        """Count the samples classified right.

        Args:
            window: Relative rounding error of the scores. Uncertain are the samples whose margin is
                within ``window * max|scores|``.
        """
        right, uncertain = np.count_nonzero(self.right), np.count_nonzero(self.near(window))
        return Tally(int(right), len(self.right), int(uncertain))

    def loss_since(self, trained: Margins, reading: Reading, window: float) -> Loss:
        """Sum up what the samples lost since the margins of the trained model."""
        lost = trained.probability - self.probability
        wrong = trained.right & ~self.right
        error = window * float(self.magnitude.max())
        return Loss(
            total=float(lost.sum()),
            square=float(lost @ lost),
            newly_wrong=int(np.count_nonzero(wrong)),
            count=len(lost),
            before=float(trained.probability.sum()),
            uncertain=reading.uncertainty(self.probability, error),
        )

    def near(self, window: float) -> Array:
        """Return which samples are uncertain, ``(n,)`` boolean, as :meth:`tally` counts them."""
        near: Array = self.margin <= window * self.magnitude.max()
        return near


def tally(score: Score, scores: Array, y: Array, window: float = 0.0) -> Tally:
    """Sum the worth of a batch.

    Args:
        score: :func:`accuracy` or the caller's function.
        scores: ``(n, ...)`` as the network gave them.
        y: ``(n, ...)``.
        window: Relative rounding error of ``scores``. Accuracy counts as uncertain the samples
            whose margin is within ``window * max|scores|``.

    Raises:
        ModelError: The network did not score with an array of floating-point numbers.
        DataError: Scores and labels do not fit each other, scores or worths are not finite, or the
            score function gives no number for each sample.
    """
    if score is accuracy:
        return margins(scores, y).tally(window)
    check_numbers(scores)
    worth = _worth(score, scores, y)
    if not np.isfinite(worth).all():
        raise DataError("the score function returned NaN or infinity")
    with np.errstate(over="ignore"):
        total = worth.sum()
    if not np.isfinite(total):
        raise DataError(
            f"the sum of what the score function returned, up to {worth.max():.1e}, leaves the "
            "range of float64; let it return smaller numbers"
        )
    # A score may jump where the greatest of a sample's scores changes, as accuracy does.
    jumps = _near_ties(scores, window) * float(np.ptp(worth.astype(np.float64)))
    drift = 0.0 if worth.dtype == bool else window * float(np.abs(worth).sum())
    return Tally(float(total), len(y), jumps + drift)


def check_by_sample(score: Score, scores: Array, y: Array) -> None:
    """Refuse a score function by which the worth of a sample depends on those beside it.

    That is how it shows that outputs and labels were broadcast against each other.

    Raises:
        DataError: It gives the first half of a batch something else by itself.

    Example:
        >>> outputs, y = np.ones((4, 1)), np.arange(4.0)
        >>> check_by_sample(lambda outputs, y: -abs(outputs[:, 0] - y), outputs, y)
        >>> try:
        ...     check_by_sample(lambda outputs, y: -abs(outputs - y).mean(axis=1), outputs, y)
        ... except DataError as refused:
        ...     print(str(refused).partition(";")[0])
        expected the score function to give a sample the same whatever lies beside it
    """
    half = len(y) // 2
    if not half:
        return
    together, apart = _worth(score, scores, y)[:half], _worth(score, scores[:half], y[:half])
    differing = ~np.isclose(together, apart, rtol=1e-4, atol=1e-6, equal_nan=True)
    if differing.any():
        first = int(differing.argmax())
        raise DataError(
            "expected the score function to give a sample the same whatever lies beside it; got "
            f"{together[first]:g} for sample {first} among {len(y)}, and {apart[first]:g} among "
            f"{half}. Outputs have shape {scores.shape} and y {y.shape}: give both the same shape "
            "before you subtract one from the other"
        )


def margins(
    scores: Array, y: Array, reading: Reading | None = None, *, probability: bool = False
) -> Margins:
    """Compare the score of each sample's class with the greatest of the others.

    Args:
        scores: ``(n, classes)`` as the network gave them; ``(n,)`` or ``(n, 1)`` with a reading.
        y: ``(n,)`` class indices.
        reading: How to read the scores; None takes one score for each class.
        probability: Whether to keep the probability of each sample's class as well.

    Raises:
        ModelError: The network did not score with an array of floating-point numbers.
        DataError: Scores and labels do not fit each other, or scores are not finite.
    """
    check_numbers(scores)
    if reading:
        scores = reading.by_class(scores)
    check_classes(scores, y)
    # Classes first: reducing over a short last axis is many times slower.
    by_class = scores.T.copy()
    magnitude = np.abs(by_class).max(axis=0)
    check_finite(magnitude)
    rows = np.arange(len(y))
    own = by_class[y, rows]
    by_class[y, rows] = -np.inf
    margin = own - by_class.max(axis=0)
    right = margin > 0
    if not margin.all():
        tied = margin == 0
        right[tied] = accuracy(scores[tied], y[tied])
    seen = Margins(right, np.abs(margin), magnitude)
    if reading and probability:
        return replace(seen, probability=reading.of_true_class(scores, y))
    return seen


def _worth(score: Score, scores: Array, y: Array) -> Array:
    returned = score(scores, y)
    try:
        worth = np.asarray(returned)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"expected the score function to return a NumPy array; it returned a "
            f"{type(returned).__name__}"
        ) from error
    if worth.shape != (len(y),) or worth.dtype.kind not in "biuf":
        raise DataError(
            f"expected the score function to return one real number for each of the {len(y)} "
            f"samples, shape ({len(y)},); got {worth.dtype} of shape {worth.shape}"
        )
    return worth if worth.dtype == bool else worth.astype(np.float64)


def _near_ties(scores: Array, window: float) -> int:
    """Count the samples whose two greatest scores lie within ``window * max|scores|``."""
    if not window or scores.ndim < 2 or scores.shape[-1] < 2:
        return 0
    second, first = np.moveaxis(np.partition(scores, -2)[..., -2:], -1, 0)
    near = (first - second <= window * np.abs(scores).max()).reshape(len(scores), -1)
    return int(np.count_nonzero(near.any(axis=1)))
