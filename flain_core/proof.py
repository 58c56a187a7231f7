"""Proves at run time that a cut is faithful; where it is not, the whole network is run instead.

A cut can look right and be wrong: its weight is used elsewhere too, an in-place operation overwrote
a value that was kept, a fused kernel passed the layer by. So a random half of the neurons is
changed for real in a copy of the model, the copy is run in full, and the cut has to give the same
scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import WeightsError
from .flipping import columns
from .network import Array, Batch, Layer, Network

__all__ = ["Proof", "prove"]

_LEAST_ERROR_ALLOWED = 1e-4
_ROUNDINGS_ALLOWED = 64
_ERROR_PER_MOVEMENT = 0.05
_MOVEMENT_NEEDED = 1e-3
_BOOSTS = (1.0, 16.0, 256.0, 4096.0)


@dataclass(frozen=True)
class Proof:
    """What the comparison of a cut with the whole network found.

    Attributes:
        faithful: Whether the cut may be used.
        why: The finding in words.
        error: Largest difference of a score, relative to the largest score.
    """

    faithful: bool
    why: str
    error: float = float("inf")


def prove(network: Network, layer: Layer, initial: Array, x: Batch, *, seed: int = 0) -> Proof:
    """Compare a cut with the whole network under really changed weights.

    Args:
        network: The model as it stands.
        layer: The layer to be cut at, with its final weight.
        initial: Its initial weight, of the same shape.
        x: A few clean samples.
        seed: Chooses the half of the neurons.
    """
    cut = network.cut(layer.name, x)
    if cut.calls != 1:
        return Proof(False, f"the layer runs {cut.calls} times in one pass")
    scores = network.predict(x)
    allowed = max(_LEAST_ERROR_ALLOWED, _ROUNDINGS_ALLOWED * layer.epsilon)
    unchanged = max(_difference(cut.tail(cut.output), scores) for _ in range(3))
    if unchanged > allowed:
        return Proof(
            False, f"the cut disagrees with the whole network by {unchanged:.1e}", unchanged
        )

    half = np.random.default_rng(seed).permutation(layer.neurons)[: -(-layer.neurons // 2)]
    changed = _visibly_changed(network, layer, initial, half, x, scores)
    if changed is None:
        return Proof(False, "changing half of the layer's weights does not move the scores")
    weight, truth = changed
    answer = cut.tail(cut.output - cut.linear(_wide(layer.weight) - _wide(weight), half))
    error = _difference(answer, truth)
    if error > min(allowed, _ERROR_PER_MOVEMENT * _difference(truth, scores)):
        return Proof(False, f"under changed weights the cut is wrong by {error:.1e}", error)
    return Proof(True, f"proved: the cut and the whole network agree to {error:.1e}", error)


def _visibly_changed(
    network: Network, layer: Layer, initial: Array, neurons: Array, x: Batch, scores: Array
) -> tuple[Array, Array] | None:
    """A weight with the neurons' updates removed or overdone until the scores move, and those."""
    final = _wide(layer.weight)
    chosen = columns(neurons, layer.weight.shape, layer.groups)
    update = np.where(chosen, final - _wide(initial), 0)
    for boost in _BOOSTS:
        weight = (final - final.dtype.type(boost) * update).astype(layer.weight.dtype)
        try:
            truth = network.replace({layer.name: weight}).predict(x)
        except WeightsError:
            return None
        if _difference(truth, scores) >= _MOVEMENT_NEEDED:
            return weight, truth
    return None


def _wide(weight: Array) -> Array:
    return weight.astype(np.promote_types(weight.dtype, np.float32))


def _difference(one: Array, other: Array) -> float:
    """Largest difference, relative to the largest magnitude; infinite if the shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    scale = max(float(np.abs(one).max()), float(np.abs(other).max()), np.finfo(np.float64).tiny)
    difference = float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max()) / scale
    return float("inf") if np.isnan(difference) else difference
