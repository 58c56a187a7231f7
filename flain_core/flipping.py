"""The arithmetic of FLAIN on weights: find low neurons, flip their updates, match the norm.

Weights are in the canonical orientation ``(out, in / groups, *kernel)``. Formulas: Ding, Yang and
Huang, ICMR 2025 (doi 10.1145/3731715.3733342), as their published code carries them out.
"""

from __future__ import annotations

import numpy as np

from .blocks import row_blocks
from .errors import SettingsError, WeightsError
from .network import Array
from .updates import norm

MOST_FACTOR = 4.0


def low_activation(mean: Array, threshold: float) -> Array:
    """Return which input neurons clean data hardly activates: ``0 <= mean <= threshold``.

    A negative mean is never low, as in the published code. That is right behind a ReLU, where no
    mean is negative; behind tanh or a normalisation layer use another statistic.

    Args:
        mean: ``(in,)`` mean activation of each input neuron over the auxiliary data.
        threshold: In units of the activation, usually between 0 and the largest mean.

    Returns:
        ``(in,)`` boolean.

    Raises:
        SettingsError: ``mean`` is not one-dimensional, or either holds NaN or infinity.

    Example:
        >>> low_activation(np.array([0.0, 0.25, -0.1, 0.5]), 0.25)
        array([ True,  True, False, False])
    """
    mean = np.asarray(mean)
    if mean.ndim != 1:
        raise SettingsError(
            f"expected one mean for each input neuron, shape (in,); got {mean.shape}"
        )
    if not np.isfinite(mean).all() or not np.isfinite(threshold):
        raise SettingsError("expected finite means and a finite threshold; got NaN or infinity")
    low: Array = (mean >= 0) & (mean <= threshold)
    return low


def flip(
    initial: Array, final: Array, neurons: Array, *, groups: int = 1, factor: float = 2.0
) -> Array:
    """Return the final weight with the updates of some input neurons flipped.

    The weight of a chosen input neuron becomes ``final - factor * (final - initial)``. With factor
    2 that is ``initial - (final - initial)``: the update with its sign turned (the paper's flip).
    With factor 1 it is the initial weight. All others keep the final weight to the bit.

    Args:
        initial: ``(out, in / groups, *kernel)``, before training.
        final: The same shape and floating type, after training.
        neurons: Which input neurons: ``(in,)`` boolean, or ``(k,)`` distinct indices.
        groups: Groups of a convolution; 1 for a dense layer.
        factor: From 0 (nothing changes) over 2 (the update is flipped) to 4.

    Returns:
        A new array of the shape and type of ``final``. Half-precision weights are computed in
        float32 and rounded once.

    Raises:
        WeightsError: The shapes or types differ, are not those of a weight, or the result leaves
            the range of the type.
        SettingsError: ``neurons``, ``groups`` or ``factor`` is out of range.

    Example:
        >>> initial = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
        >>> final = np.array([[1.5, 2.0, 1.0], [0.5, -1.0, 3.0]])
        >>> flip(initial, final, np.array([True, False, True]))
        array([[ 0.5,  2. ,  1. ],
               [-0.5, -1. , -3. ]])
    """
    initial, final = np.asarray(initial), np.asarray(final)
    _check_pair(initial, final)
    if not 0 <= factor <= MOST_FACTOR:
        raise SettingsError(f"expected a factor from 0 to {MOST_FACTOR:g}; got {factor}")
    return flipped_where(initial, final, columns(neurons, final.shape, groups), factor)


def flipped_where(initial: Array, final: Array, chosen: Array, factor: float) -> Array:
    """Return the final weight with the updates of chosen entries flipped, as :func:`flip` does.

    Some rows at a time, as a whole copy in another type would take much memory.

    Args:
        initial: ``(out, in / groups, *kernel)``.
        final: Likewise.
        chosen: As :func:`columns` says them.
        factor: 2 flips an update.
    """
    wide = np.promote_types(final.dtype, np.float32)
    result = np.array(final, order="C")
    for rows in row_blocks(final):
        start, end = (each[rows].astype(wide, copy=False) for each in (initial, final))
        with np.errstate(over="ignore", invalid="ignore"):
            flipped = (end - wide.type(factor) * (end - start)).astype(final.dtype)
        of_rows = chosen if len(chosen) == 1 else chosen[rows]
        np.copyto(result[rows], flipped, where=of_rows)
        if not np.isfinite(result[rows]).all():
            known = np.isfinite(end) & np.isfinite(start)
            check_range(result[rows][known], "the flipped weight")
    return result


def check_range(array: Array, what: str) -> None:
    """Raise :class:`WeightsError` if rounding to the type of an array made a number infinite."""
    if not np.isfinite(array).all():
        raise WeightsError(
            f"{what} leaves the range of {array.dtype}; check both models, or convert them to a "
            "wider type"
        )


def match_norm(weight: Array, reference: Array) -> Array:
    """Return ``weight`` rescaled to the Frobenius norm of ``reference``.

    ``weight * ||reference|| / ||weight||``, the last step of the published code. A weight that is
    zero everywhere has no direction and is returned as it is.

    Args:
        weight: ``(out, in / groups, *kernel)``, floating point.
        reference: Any shape.

    Returns:
        A new array of the shape and type of ``weight``.

    Raises:
        WeightsError: ``weight`` is not floating point, or the result leaves the range of its type.

    Example:
        >>> match_norm(np.array([[3.0, 4.0]]), np.array([[0.0, 10.0]]))
        array([[6., 8.]])
    """
    weight = np.asarray(weight)
    if not np.issubdtype(weight.dtype, np.floating):
        raise WeightsError(f"expected a weight of a floating type; got {weight.dtype}")
    own, target = norm(weight), norm(np.asarray(reference))
    rescaled = np.array(weight, order="C")
    if own == 0.0:
        return rescaled
    with np.errstate(over="ignore"):
        for rows in row_blocks(weight):
            rescaled[rows] = weight[rows].astype(np.float64) * (target / own)
    if np.isfinite([own, target]).all():
        check_range(rescaled, "the rescaled weight")
    return rescaled


def columns(neurons: Array, shape: tuple[int, ...], groups: int = 1) -> Array:
    """Return which entries of a weight belong to some input neurons, ready to broadcast over it.

    Input neuron ``j`` of a grouped convolution is column ``j % (in / groups)`` of the rows of group
    ``j // (in / groups)``, and of no other row.

    Args:
        neurons: ``(in,)`` boolean, or ``(k,)`` distinct indices.
        shape: Of the weight: ``(out, in / groups, *kernel)``.
        groups: Groups of a convolution.

    Returns:
        Boolean ``(out, in / groups, 1, ...)``, or ``(1, in / groups, 1, ...)`` for one group.

    Raises:
        SettingsError: ``neurons`` or ``groups`` does not fit the shape.

    Example:
        >>> columns(np.array([0, 3]), (4, 2), groups=2).astype(int)
        array([[1, 0],
               [1, 0],
               [0, 1],
               [0, 1]])
    """
    out, per_group = shape[:2]
    if groups < 1 or out % groups:
        raise SettingsError(
            f"expected groups to divide the {out} outputs of the layer; got {groups}"
        )
    mask = _mask(np.asarray(neurons), per_group * groups)
    by_group = mask.reshape(groups, per_group)
    if groups > 1:
        by_group = np.repeat(by_group, out // groups, axis=0)
    return by_group.reshape(by_group.shape + (1,) * (len(shape) - 2))


def only(weight: Array, neurons: Array, groups: int = 1) -> Array:
    """Return a weight in which the entries of all other input neurons are zero.

    Args:
        weight: ``(out, in / groups, *kernel)``.
        neurons: ``(in,)`` boolean, or ``(k,)`` distinct indices.
        groups: Groups of a convolution.

    Raises:
        SettingsError: ``neurons`` or ``groups`` does not fit the weight.

    Example:
        >>> only(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1]))
        array([[0., 2.],
               [0., 4.]])
    """
    return np.where(columns(neurons, weight.shape, groups), weight, 0)


def _mask(neurons: Array, count: int) -> Array:
    if neurons.dtype == bool:
        if neurons.shape != (count,):
            raise SettingsError(
                f"expected a mask over {count} input neurons, shape ({count},); got {neurons.shape}"
            )
        return neurons
    if neurons.ndim != 1 or (neurons.size and not np.issubdtype(neurons.dtype, np.integer)):
        raise SettingsError("expected a boolean mask or a one-dimensional array of neuron indices")
    if neurons.size and not 0 <= neurons.min() <= neurons.max() < count:
        raise SettingsError(
            f"expected neuron indices from 0 to {count - 1}; got {neurons.min()} to {neurons.max()}"
        )
    mask = np.zeros(count, dtype=bool)
    mask[neurons.astype(np.intp)] = True
    if np.count_nonzero(mask) < neurons.size:
        raise SettingsError(
            "expected distinct neuron indices; some are given twice. If this is a mask of zeros "
            "and ones, give it as booleans: neurons.astype(bool)"
        )
    return mask


def _check_pair(initial: Array, final: Array) -> None:
    if initial.shape != final.shape or final.ndim < 2:
        raise WeightsError(
            "expected initial and final weights of one shape (out, in / groups, *kernel); "
            f"got {initial.shape} and {final.shape}"
        )
    if initial.dtype != final.dtype or not np.issubdtype(final.dtype, np.floating):
        raise WeightsError(
            "expected initial and final weights of one floating type; "
            f"got {initial.dtype} and {final.dtype}"
        )
