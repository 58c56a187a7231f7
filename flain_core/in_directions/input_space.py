"""The inputs of a layer as clean samples use them: mean, variance, and their shrunk covariance.

``C`` is estimated from fewer samples than it has columns. It is shrunk towards its diagonal by the
share that minimises the expected squared error (Schaefer and Strimmer, 2005, target D; after Ledoit
and Wolf, 2004), so that an input which clean data activates is spared even in directions that no
sample happened to show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flain_core.blocks import column_blocks
from flain_core.errors import LayerError
from flain_core.network import Array

RATIO = 1.5
# So weak, as a single input or sample in other units can raise the variance of all.
_WEAKEST, _STRONGEST = 4e-4 * RATIO**-40, 8.0
CANDIDATES = int(np.log(_STRONGEST / _WEAKEST) / np.log(RATIO)) + 1
_MOST_SHRUNK = 0.95
_IDLE = 0.25  # beside the greatest
_QUIET = 1e-3  # beside the inputs' mean variance: an input of this variance is half quiet


@dataclass(frozen=True, eq=False)
class InputSpace:
    """The inputs of a layer as clean samples use them.

    Attributes:
        mean: ``(in,)`` float64; zero for a layer without a bias, which cannot keep a mean.
        variance: ``(in,)`` float64.
        active: ``(k,)`` indices of the inputs that vary at all.
        centred: ``(n * positions, k)`` float64, the active inputs less their mean.
        shrinkage: From 0 to 1: share by which the covariance is moved towards its diagonal.
        idle: ``(in,)`` which inputs clean data leaves idle at times: none is negative, and the
            least is at most a quarter of the greatest.
        positions: How often the layer sees a sample.
    """

    mean: Array
    variance: Array
    active: Array
    centred: Array
    shrinkage: float
    idle: Array
    positions: int = 1

    @classmethod
    def of(cls, inputs: Array, *, bias: bool) -> InputSpace:
        """Estimate from inputs ``(n, in, *positions)`` of a layer with or without a bias.

        Raises:
            LayerError: The inputs do not vary.
        """
        rows = rows_of(np.asarray(inputs))
        positions = len(rows) // max(len(inputs), 1)
        mean, variance = np.zeros(rows.shape[1]), np.empty(rows.shape[1])
        idle = np.empty(rows.shape[1], dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            for some in column_blocks(rows):
                values = rows[:, some].astype(np.float64)
                least, greatest = values.min(axis=0), values.max(axis=0)
                idle[some] = (least >= 0) & (least <= _IDLE * greatest)
                if bias:
                    mean[some] = values.mean(axis=0)
                values -= mean[some]
                variance[some] = np.square(values, out=values).mean(axis=0)
            active = np.flatnonzero(variance)
            centred = np.empty((len(rows), active.size))
            for some in column_blocks(centred):
                np.subtract(rows[:, active[some]], mean[active[some]], out=centred[:, some])
            shrinkage = _shrinkage(centred, variance[active], positions)
        if not active.size or not np.isfinite([*variance, shrinkage]).all():
            raise LayerError(
                "the inputs of the layer are the same for all samples, or too large; check the "
                "data and the layers before it"
            )
        return cls(mean, variance, active, centred, shrinkage, idle, positions)

    @property
    def quiet(self) -> Array:
        """``(in,)`` how quiet inputs are, from 0 to 1; 0 for those that are never idle.

        Whether a trigger would raise or lower such an input is not known.
        """
        beside = self.variance / float(self.variance.mean())
        quiet: Array = np.where(self.idle, _QUIET / (_QUIET + beside), 0.0)
        return quiet

    @property
    def scale(self) -> float:
        """What centred inputs are multiplied by, so that their products are those in ``C``."""
        scale: float = ((1 - self.shrinkage) / len(self.centred)) ** 0.5
        return scale

    def active_in(self, columns: slice) -> tuple[Array | slice, slice]:
        """Return which of some columns are active, and where these lie among all that are."""
        first, last = np.searchsorted(self.active, (columns.start, columns.stop))
        if last - first == columns.stop - columns.start:
            return slice(None), slice(first, last)  # as that makes no copy
        return self.active[first:last] - columns.start, slice(first, last)

    def strength(self, number: int) -> float:
        """Return the strength of a candidate, a variance as the inputs have it.

        Args:
            number: 1 is the weakest that is tried; what is fitted may lie before it, or beyond the
                last.
        """
        return float(self.variance.mean() * _WEAKEST * RATIO ** (number - 1))


def rows_of(inputs: Array) -> Array:
    """Return inputs ``(n, in, *positions)`` as rows ``(n * positions, in)``, sample by sample.

    >>> rows_of(np.array([[[1, 2], [3, 4]]]))
    array([[1, 3],
           [2, 4]])
    """
    rows: Array = np.moveaxis(inputs, 1, -1).reshape(-1, inputs.shape[1])
    return rows


def _shrinkage(centred: Array, variance: Array, positions: int) -> float:
    """The share of the diagonal that minimises the expected squared error of the covariance.

    The sum over ``i != j`` of the variance of each estimated entry, over the sum of their squares;
    both follow from the samples' inner products. The rows of one sample count as one.
    """
    samples = len(centred) // positions
    if samples < 2:
        return _MOST_SHRUNK
    inner = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    squares = float(np.square(inner, out=inner).sum()) / len(centred) ** 2
    products, fourth_of_each = np.zeros((samples, positions, positions)), 0.0
    for some in column_blocks(centred):
        by_sample = centred[:, some].reshape(samples, positions, -1)
        products += by_sample @ by_sample.swapaxes(1, 2)
        squared = np.square(by_sample).mean(axis=1)
        fourth_of_each += float(np.square(squared, out=squared).sum()) / samples
    fourth = float(np.square(products, out=products).sum()) / positions**2 / samples
    off_diagonal = squares - float(np.square(variance).sum())
    of_entries = (fourth - squares) / samples
    of_diagonal = (fourth_of_each - float(np.square(variance).sum())) / samples
    if off_diagonal <= 0:
        return _MOST_SHRUNK
    return min(max((of_entries - of_diagonal) / off_diagonal, 0.0), _MOST_SHRUNK)
