"""Proves at run time that a cut is faithful; where it is not, the whole network is run instead.

A cut can look right and be wrong: the weight is used elsewhere too, an in-place operation overwrote
a value that was kept, a fused kernel bypassed the layer. So the proof really flips the neurons in a
copy of the model, one random half and then the other, runs the copy in full, and compares the
scores with those of the cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import ModelError, WeightsError
from .flipping_order import FlippingOrder
from .in_directions.directions import Flipping
from .network import Array, Batch, Network
from .score_checks import check_finite, check_numbers

DOES_NOT_MOVE = "does not move the scores"

_LEAST_ERROR_ALLOWED = 1e-4
_ROUNDINGS_ALLOWED = 64
_ERROR_PER_MOVEMENT = 0.05
_MOVEMENT_NEEDED = 1e-3
_BOOSTS = (1.0, 16.0, 256.0, 4096.0)


@dataclass(frozen=True)
class Proof:
    """The finding of a comparison of a cut with the whole network.

    Attributes:
        faithful: Whether the cut may be used.
        why: The finding in words.
        error: Largest difference of a score, relative to the largest score.
    """

    faithful: bool
    why: str
    error: float = float("inf")


NOT_AS_PROMISED = Proof(False, "the purified model did not score what the cut had promised")


def check_deterministic(network: Network, x: Batch, fewer: Batch, epsilon: float) -> None:
    """Check that a network scores each sample alike, each time and whatever lies beside it.

    Args:
        network: The model.
        x: A few samples.
        fewer: The first of them.
        epsilon: Relative rounding error of its numbers.

    Raises:
        ModelError: It does not.
        DataError: It does not score with finite numbers.
    """
    scores = network.predict(x)
    check_numbers(scores)
    check_finite(scores)
    apart = network.predict(fewer)
    difference = _difference(scores[: len(apart)], apart)
    if difference <= error_allowed(epsilon):
        return
    again = _difference(scores, network.predict(x))
    if again > error_allowed(epsilon):
        raise ModelError(
            "the model scores the same samples differently each time it is run (relative "
            f"difference {again:.1e}), so no decision can be trusted; make it deterministic "
            "in evaluation mode, for example by switching off dropout"
        )
    raise ModelError(
        f"the model scores a sample differently beside others (relative difference "
        f"{difference:.1e}), as batch normalisation without running statistics does, so nothing "
        "that is measured here holds for a single sample; use a model that treats each by itself"
    )


def check_replaced(flipping: Flipping, x: Batch) -> None:
    """Raise :class:`ModelError` if a layer's own weight, put in again, changes the scores.

    Args:
        flipping: The layer.
        x: A few clean samples.
    """
    network, layer = flipping.network, flipping.layer
    difference = _difference(network.predict(x), flipping.candidate(0).predict(x))
    if difference > error_allowed(layer.epsilon):
        raise ModelError(
            f"the model scores differently (relative difference {difference:.1e}) once layer "
            f"{layer.name!r} is replaced by its own weight, so its backend's layers() or replace() "
            "is wrong; flain_core.conformance tells what a backend has to pass"
        )


def prove(flipping: Flipping, x: Batch, *, seed: int = 0) -> Proof:
    """Compare a cut with the whole network under really flipped weights.

    Args:
        flipping: The layer to be cut at.
        x: A few clean samples.
        seed: Chooses which neurons form the halves.
    """
    network, layer = flipping.network, flipping.layer
    cut = network.cut(layer.name, x)
    if cut.calls != 1:
        return Proof(False, f"the layer runs {cut.calls} times in one pass")
    scores = network.predict(x)
    allowed = error_allowed(layer.epsilon)
    worst = max(_difference(cut.tail(cut.output), scores) for _ in range(3))
    if worst > allowed:
        return Proof(False, f"the cut disagrees with the whole network by {worst:.1e}", worst)

    neurons = np.random.default_rng(seed).permutation(layer.neurons)
    moved = False
    for half in np.array_split(neurons, 2):
        changed = _visibly_changed(flipping, half, x, scores)
        if changed is None:
            continue
        moved = True
        boosted, truth = changed
        answer = cut.tail(cut.output - boosted.taken(cut, half))
        error = _difference(answer, truth)
        worst = max(worst, error)
        if error > min(allowed, _ERROR_PER_MOVEMENT * _difference(truth, scores)):
            return Proof(False, f"under flipped weights the cut is wrong by {error:.1e}", error)
    if not moved:
        return Proof(False, f"flipping the layer's weights {DOES_NOT_MOVE}")
    return Proof(True, f"proved: the cut and the whole network agree to {worst:.1e}", worst)


def _visibly_changed(
    flipping: Flipping, neurons: Array, x: Batch, scores: Array
) -> tuple[FlippingOrder, Array] | None:
    """Return neurons flipped, if need be beyond the factor, until the scores move; and those."""
    network, layer, initial = flipping.network, flipping.layer, flipping.initial
    for boost in _BOOSTS:
        boosted = FlippingOrder(network, layer, initial, boost * flipping.factor, neurons)
        try:
            truth = boosted.candidate(neurons.size).predict(x)
        except WeightsError:
            return None
        if _difference(truth, scores) >= _MOVEMENT_NEEDED:
            return boosted, truth
    return None


def error_allowed(epsilon: float) -> float:
    """The largest relative error of a score that a faithful cut may have."""
    return max(_LEAST_ERROR_ALLOWED, _ROUNDINGS_ALLOWED * epsilon)


def _difference(one: Array, other: Array) -> float:
    """Largest difference, relative to the largest magnitude; infinite if the shapes differ."""
    if one.shape != other.shape or not one.size:
        return float("inf")
    scale = max(float(np.abs(one).max()), float(np.abs(other).max()), np.finfo(np.float64).tiny)
    difference = float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max()) / scale
    return float("inf") if np.isnan(difference) else difference
