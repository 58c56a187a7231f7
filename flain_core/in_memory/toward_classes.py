"""Finds out how the outputs of a layer move the score of each class.

The pre-activations of all samples are pushed by pseudo-random amounts, there and back, and the
differences of the scores are fitted by least squares; no gradient is needed. A push is as large as
that of a trigger, so that outputs count that clean samples leave inactive. If the update of an
output is far larger than those of the others, its pushes are larger too: what is flipped is the
product of both, and an output that moves nothing must not seem to move a little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flain_core.in_directions.input_space import rows_of
from flain_core.network import Array, Cut
from flain_core.outputs import Reading

from .cut_batch import CutBatch, pre_activation, scores_of
from .grader import Grader

_PUSH = 2.0  # in units of how far pre-activations lie from their mean
_PUSHES_PER_OUTPUT = 3
_MOST_PUSHES_PER_OUTPUT = 24
_LEAST_PUSHED = 0.05  # the mean square of what was pushed least, beside 1
_FAR = 10.0  # beside the median
_UPPER = 0.75
_NOTHING = 1e-4  # beside the upper quartile
_RIDGE = 1e-3
_SEED = 0  # always the same: two frameworks must find the same directions
_KEYS = 8
_FREQUENCY = 5.0


def toward_classes(
    batches: Sequence[CutBatch], grader: Grader, updates: Array
) -> tuple[Array, Array, Array] | None:
    """Return along which outputs the score of each class grows over the mean of all.

    Only classes with samples count.

    Args:
        batches: All samples, with cuts that take pre-activations from outside.
        grader: Reads the scores.
        updates: ``(out,)`` the greatest magnitude in the update of each output.

    Returns:
        ``(classes, out)`` float64, each of length 1; ``(n,)`` to which of these each sample
        belongs, -1 to none of them; and ``(classes,)`` their labels. None where the scores are no
        classifier's, there are samples of a single class, the outputs are fewer than the classes,
        so that none has a direction of its own, they do not move the scores, or most pushes end in
        infinity.
    """
    if not grader.follows_samples:
        return None
    clean = [(batch, batch.cut) for batch in batches if batch.probe is None and batch.cut]
    cuts, labels = [cut for _, cut in clean], [batch.samples.y for batch, _ in clean]
    scores = [cut.tail(cut.output) for cut in cuts]
    grader.recognise(scores, labels)
    y = np.concatenate(labels)
    classes = np.unique(y)
    if grader.reading is None or len(classes) < 2:
        return None
    # A push may move scores out of the range of their type, which says nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        effects = _effects(cuts, grader.reading, classes, np.maximum(updates / _far(updates), 1))
        size = np.linalg.norm(effects, axis=1)
    moving = size > np.finfo(float).eps * size.max(initial=0.0)
    if not np.isfinite(size).all() or np.count_nonzero(moving) < 2:
        return None
    toward: Array = effects[moving] / size[moving, np.newaxis]
    if len(toward) > toward.shape[1]:
        return None
    of_sample = np.full(len(y), -1)
    for place, one in enumerate(classes[moving]):
        of_sample[y == one] = place
    return toward, of_sample, classes[moving]


def _effects(cuts: Sequence[Cut], reading: Reading, classes: Array, sizes: Array) -> Array:
    """Return ``(classes, out)`` how much the outputs move the logit of each class.

    Args:
        cuts: All samples.
        reading: How to read the scores.
        classes: Which classes count.
        sizes: ``(out,)`` how large the pushes of each output are, beside those of most.
    """
    chance = np.random.default_rng(_SEED)
    before = [pre_activation(cut) for cut in cuts]
    positions = len(rows_of(cuts[0].inputs[:1]))
    outputs = before[0].shape[1] // positions
    deviations = _deviations([each.reshape(-1, outputs) for each in before])
    if not deviations.any():
        return np.zeros((len(classes), outputs))
    deviation = np.square(np.minimum(deviations, _far(deviations))).mean() ** 0.5
    seen = [
        output.reshape(len(output), positions, outputs).mean(axis=1, dtype=np.float64)
        for output in before
    ]
    count = sum(map(len, seen))
    # Less their mean, as a bias may be missing in pre-activations.
    mean = sum(each.sum(axis=0) for each in seen) / count
    spread = np.where(deviations > 0, deviations, 1.0)
    products, moved = np.zeros((outputs, outputs)), np.zeros((outputs, len(classes)))
    pushes = told = 0
    enough, most = (each * outputs for each in (_PUSHES_PER_OUTPUT, _MOST_PUSHES_PER_OUTPUT))
    while pushes < enough:
        pushes += count
        hashes = chance.normal(size=(outputs, _KEYS)), chance.normal(size=(_KEYS, outputs))
        for cut, output, each in zip(cuts, before, seen, strict=True):
            push = _pushes((each - mean) / spread, *hashes)
            # A layer that sees a sample several times is pushed alike each time.
            pushed = _PUSH * deviation * np.tile(push * sizes, positions)
            there, back = (
                _logits(scores_of(cut, (output + way).astype(output.dtype)), reading)[:, classes]
                for way in (pushed, -pushed)
            )
            difference = there - back
            difference -= difference.mean(axis=1, keepdims=True)
            finite = np.isfinite(difference).all(axis=1)
            push, difference = push[finite], difference[finite]
            products += push.T @ push
            moved += push.T @ difference
            told += len(push)
        # Samples that are alike are pushed alike, so that more rounds are needed.
        if pushes >= enough and np.linalg.eigvalsh(products)[0] < _LEAST_PUSHED * pushes:
            enough = min(2 * enough, most)
    if told < pushes / 2:
        return np.full((len(classes), outputs), np.nan)
    products[np.diag_indices_from(products)] += _RIDGE * told
    effects: Array = np.linalg.solve(products, moved).T / sizes
    return effects


def _far(sizes: Array) -> float:
    """Return which size is far from that of most; those that are next to nothing do not count.

    >>> _far(np.array([1.0, 2.0, 1e-9, 3.0, 500.0]))
    25.0
    """
    upper = np.quantile(sizes, _UPPER)
    return _FAR * float(np.median(sizes[sizes > _NOTHING * upper]))


def _pushes(seen: Array, to_keys: Array, from_keys: Array) -> Array:
    """Return a pseudo-random push for each output of each sample, of mean square 1.

    They follow from the sample alone, and smoothly: neither its place nor its batch matters, and as
    little how an engine rounds.
    """
    keys = seen @ to_keys / len(to_keys) ** 0.5
    pushes: Array = 2**0.5 * np.sin(_FREQUENCY * keys @ from_keys)
    return pushes


def _deviations(rows: Sequence[Array]) -> Array:
    """Return ``(out,)`` the standard deviations of pre-activations."""
    together = np.concatenate(rows).astype(np.float64)
    deviations: Array = np.square(together - together.mean(axis=0)).mean(axis=0) ** 0.5
    return deviations


def _logits(scores: Array, reading: Reading) -> Array:
    """Return ``(n, classes)`` float64 logits, up to a number for each sample."""
    by_class = reading.by_class(scores).astype(np.float64)
    if reading.outputs == "logits":
        return by_class
    # With two classes one may be what the other lacks to 1, and that is rounded to 0 early.
    limits = np.finfo(scores.dtype)
    least = limits.eps if by_class.shape[1] == 2 else limits.tiny
    logits: Array = np.log(np.where(by_class <= 0, least, by_class))
    return logits
