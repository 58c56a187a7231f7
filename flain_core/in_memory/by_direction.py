"""Steps from candidate to candidate of :class:`Directions`, from the layer on.

The network runs once up to the layer. A candidate's pre-activations follow from the model's by
matrix products, and its scores by one call of the tail for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import rows_of
from flain_core.network import Array, Cut
from flain_core.sample_source import Candidates
from flain_core.tallies import Scored

from .cut_batch import CutBatch, cuts_of, pre_activation, scores_of
from .grader import Graded, Grader

_ERROR_ALLOWED = 1e-5
_ORDER_ERROR_ALLOWED = 1e-2

_Kept: TypeAlias = tuple[CutBatch, Cut, Array]
"""A batch, its cut, and the layer's pre-activations of the model as it stands."""


def by_direction(
    batches: Sequence[CutBatch],
    directions: Directions,
    grader: Grader,
    window: float,
    score_in_full: Callable[[int], Scored],
) -> Candidates:
    """Return what scores candidates; each costs matrix products over all samples, and a tail.

    The auxiliary samples are those that the directions were fitted to. Each is judged by the weight
    that would have been fitted without it, in the order of the classes that all of them gave.

    Args:
        batches: All samples, with their cuts, the layer's pre-activations ``(n, *positions, out)``.
        directions: The candidates.
        grader: Grades the scores.
        window: Relative error of a score that rounding can cause.
        score_in_full: As :class:`~flain_core.sample_source.Candidates` has it.
    """
    cuts = cuts_of(batches)
    kept = [(batch, cut, pre_activation(cut)) for batch, cut in zip(batches, cuts, strict=True)]

    def score(number: int, *, unseen: bool) -> Scored:
        scored = grader.grade(_scores(kept, directions, number, unseen=unseen), window)
        # No network scores each sample as if it had had no part in the fit, so none can be asked.
        loss = scored.loss and replace(scored.loss, uncertain=0.0)
        return replace(scored, loss=loss, class_share=directions.class_share(number))

    return Candidates(
        advance=lambda numbers: [score(number, unseen=True) for number in numbers],
        score_in_full=score_in_full,
        as_written=partial(score, unseen=False),
    )


def _scores(
    kept: Sequence[_Kept], directions: Directions, number: int, *, unseen: bool
) -> Iterator[Graded]:
    probes = _of_probes(kept, directions, number) if number else iter(())
    taken = directions.taken(number, unseen=unseen) if number else np.zeros((0, 0))
    start = 0
    for batch, cut, output in kept:
        moved = output
        if number and batch.probe is None:
            # A layer may see a sample several times.
            some = taken.reshape(-1, output.shape[1])[start : start + len(output)]
            moved = output - some
            start += len(output)
        elif number:
            moved = next(probes)
        with np.errstate(over="ignore"):
            moved = moved.astype(output.dtype, copy=False)
        yield batch.probe, batch.samples.y, scores_of(cut, moved)


def _of_probes(kept: Sequence[_Kept], directions: Directions, number: int) -> Iterator[Array]:
    """Yield the pre-activations of each batch of the probes."""
    of_probes = [
        (cut, output, np.zeros(output.shape))
        for batch, cut, output in kept
        if batch.probe is not None
    ]
    # Each part of the change is computed once, for all of them.
    for columns, change in directions.changes(number) if of_probes else ():
        for cut, _, taken in of_probes:
            rows = rows_of(cut.inputs)[:, columns] - directions.space.mean[columns]
            with np.errstate(over="ignore"):
                np.add(taken, (rows @ change.T).reshape(taken.shape), out=taken)
    for _, output, taken in of_probes:
        yield output - taken


def takes_outputs(batches: Sequence[CutBatch], weight: Array) -> bool:
    """Return whether all batches were kept, at cuts that take pre-activations from outside.

    Args:
        batches: All samples.
        weight: The layer's, ``(out, in)``.
    """
    cuts = cuts_of(batches)
    if len(cuts) < len(batches):
        return False
    # A framework says in its own ways that a tail takes no such batch.
    try:
        return all(_is_row_by_row(cut, weight) and _takes_outputs(cut) for cut in cuts)
    except Exception:
        return False


def _is_row_by_row(cut: Cut, weight: Array) -> bool:
    """Return whether the pre-activation has a row of outputs for each row of the inputs.

    A layer that multiplies from the left has columns instead, and a batch that a model fills up to
    a fixed size has more rows.
    """
    rows, outputs = rows_of(cut.inputs[:1]), pre_activation(cut)[0]
    if outputs.size != len(rows) * len(weight):
        return False
    # Between rows, so that a bias does not matter. A weight in another type would be a large copy.
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.diff(rows, axis=0) @ weight.T
        given = np.diff(outputs.reshape(len(rows), -1), axis=0)
        allowed = _ORDER_ERROR_ALLOWED * np.abs(expected).max(initial=0.0)
        return bool(np.abs(given - expected).max(initial=0.0) <= allowed)


def _takes_outputs(cut: Cut) -> bool:
    """Return whether the tail of a cut, given the cut's own pre-activations, scores alike."""
    scores = cut.tail(cut.output)
    given = scores_of(cut, pre_activation(cut))
    if given.shape != scores.shape:
        return False
    if not np.isfinite(scores).all():
        return False
    return bool(np.abs(given - scores).max() <= _ERROR_ALLOWED * np.abs(scores).max())
