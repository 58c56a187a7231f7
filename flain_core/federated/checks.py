"""Checks of answers: whether they can be true, and whether a holder stands by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from flain_core.activation import ActivationStatistics
from flain_core.errors import DataError
from flain_core.network import Layer
from flain_core.outputs import Reading
from flain_core.proof import Proof, error_allowed
from flain_core.tallies import Loss, Scored, Tally

from .messages import Answer, Question

_ROUNDING = 1e-6
_ROUNDING_OF_TOTALS = 1e-9
# Of a probability, between two runs of one model on one machine.
_ROUNDING_OF_PROBABILITY = 1e-4
# Of stated probabilities, which need not sum to one more exactly.
_ROUNDING_OF_SUMS = 1e-2
# So that sums over all holders neither overflow nor become infinite.
_MOST_SAMPLES = 2**48
_LARGEST = 1e300
_SMALLEST = 1e-150


def check_answer(
    answer: Answer,
    question: Question,
    *,
    layer: Layer | None,
    probes: Sequence[str],
    classify: bool,
) -> None:
    """Raise :class:`DataError` if an answer does not fit its question or cannot be true.

    A lie that is possible passes; merge by median or trimmed mean to bound what it can do. A holder
    may have no samples of some probes; ``classify`` says that totals are whole numbers of samples.
    """
    asked = question.task if question.task in ("statistics", "proof") else "scores"
    answered = {
        "statistics": answer.statistics is not None,
        "proof": answer.proof is not None,
        "scores": bool(answer.scored),
    }
    if unasked := [what for what, given in answered.items() if given and what != asked]:
        raise DataError(f"expected {asked} alone; got {' and '.join(unasked)} too")
    if question.task == "statistics":
        _check_statistics(answer.statistics, layer.neurons if layer else 0)
    elif question.task == "proof":
        _check_proof(answer.proof, error_allowed(layer.epsilon) if layer else 0.0)
    else:
        expected = max(len(question.n_flipped), 1)
        if len(answer.scored) != expected:
            raise DataError(f"expected {expected} scores; got {len(answer.scored)}")
        counts = []
        for scored in answer.scored:
            _check_scored(scored, set(probes if question.probes else ()), classify)
            _check_loss(scored, wanted=question.loss)
            probed = {name: tally.count for name, tally in scored.probes.items()}
            counts.append((scored.clean.count, probed))
        if any(each != counts[0] for each in counts):
            raise DataError("the number of samples changes from candidate to candidate")
        if question.of_trained and question.loss and answer.reading is None:
            raise DataError("expected how it reads the model's scores; got nothing")


def _check_statistics(seen: ActivationStatistics | None, neurons: int) -> None:
    if seen is None:
        raise DataError("expected statistics of the layer's inputs; got nothing")
    arrays = (seen.total, seen.total_abs, seen.total_square, seen.active)
    for array in arrays:
        if array.shape != (neurons,) or not np.isfinite(array).all():
            raise DataError(
                f"expected finite statistics of {neurons} input neurons; got shape {array.shape}, "
                "or NaN or infinity"
            )
    largest = max(float(np.abs(array).max(initial=0)) for array in arrays)
    if not 1 <= seen.count <= _MOST_SAMPLES or largest > _LARGEST:
        raise DataError(
            f"expected statistics of 1 to {_MOST_SAMPLES} values, with sums up to {_LARGEST}; got "
            f"{seen.count}, with sums up to {largest}"
        )
    if not _possible(seen):
        raise DataError("the statistics contradict each other: no activations can have them")


def _possible(seen: ActivationStatistics) -> bool:
    if (seen.total_abs < 0).any() or (seen.total_square < 0).any():
        return False
    if (seen.active < 0).any() or (seen.active > seen.count).any():
        return False
    if (np.abs(seen.total) > seen.total_abs * (1 + _ROUNDING)).any():
        return False
    # A sum of sizes is at least the root of the sum of their squares, and by Cauchy and Schwarz at
    # most that times the root of their number: of those above zero, and of all others.
    root = np.sqrt(seen.total_square)
    above, below = (seen.total_abs + seen.total) / 2, (seen.total_abs - seen.total) / 2
    inactive = seen.count - seen.active
    # Squares of smaller activations vanish.
    slack = _ROUNDING * seen.total_abs + seen.count * _SMALLEST
    return bool(
        (root <= seen.total_abs + slack).all()
        and (above <= np.sqrt(seen.active) * root + slack).all()
        and (below <= np.sqrt(inactive) * root + slack).all()
    )


def _check_proof(proof: Proof | None, allowed: float) -> None:
    if proof is None:
        raise DataError("expected whether the cut is faithful; got nothing")
    if proof.faithful and not 0 <= proof.error <= allowed:
        raise DataError(
            f"expected a faithful cut to have an error from 0 to {allowed:.1e}; got {proof.error}"
        )


def _check_scored(scored: Scored, probes: set[str], classify: bool) -> None:
    if not scored.probes.keys() <= probes:
        raise DataError(f"expected no probes but {sorted(probes)}; got {sorted(scored.probes)}")
    for tally in (scored.clean, *scored.probes.values()):
        _check_tally(tally, classify)


def _check_tally(tally: Tally, classify: bool) -> None:
    if not 1 <= tally.count <= _MOST_SAMPLES or not (
        abs(tally.total) <= _LARGEST and 0 <= tally.uncertain <= _LARGEST
    ):
        raise DataError(
            f"expected a finite total over 1 to {_MOST_SAMPLES} samples, with an uncertainty of at "
            f"least 0; got {tally}"
        )
    whole = float(tally.total).is_integer() and float(tally.uncertain).is_integer()
    if classify and not (
        whole and 0 <= tally.total <= tally.count and tally.uncertain <= tally.count
    ):
        raise DataError(
            "expected whole numbers of samples that are right, and uncertain, from 0 to "
            f"{tally.count}; got {tally.total} and {tally.uncertain}"
        )


def _check_loss(scored: Scored, *, wanted: bool) -> None:
    loss = scored.loss
    if not wanted and loss is None:
        return
    if loss is None or not wanted:
        expected = "what the samples lost" if wanted else "nothing of what the samples lost"
        raise DataError(f"expected {expected}; got {loss}")
    if loss.count != scored.clean.count:
        raise DataError(f"it scored {scored.clean.count} samples, and {loss.count} lost something")
    if not _possible_loss(loss):
        raise DataError(f"no probabilities of {loss.count} samples can have lost {loss}")


def _possible_loss(loss: Loss) -> bool:
    """Return whether losses from -1 to 1, of probabilities from 0 to 1, can have such sums."""
    count = loss.count
    sums = (loss.total, loss.square, loss.before, loss.uncertain)
    if not np.isfinite(sums).all() or loss.uncertain < 0:
        return False
    slack = _ROUNDING * count
    now = loss.before - loss.total
    return bool(
        -slack <= loss.square <= count + slack
        and abs(loss.total) <= count + slack
        # The squares of numbers of that sum, by Cauchy and Schwarz; and none exceeds 1.
        and loss.total**2 <= count * loss.square * (1 + _ROUNDING) + slack
        and -slack <= loss.before <= count + slack
        and -slack <= now <= count + slack
        and loss.square <= loss.before + now + slack
        and loss.uncertain <= count + slack
        and 0 <= loss.newly_wrong <= count
    )


def check_reading(reading: Reading, trained: Scored) -> None:
    """Raise :class:`DataError` if a reading does not go with what the trained model scores.

    Both have to come from the same run of it.
    """
    count, right = trained.clean.count, trained.clean.total
    wrong = count - right + trained.clean.uncertain
    excess = reading.excess * count
    slack = _ROUNDING * count
    # A sample that is wrong is one too many of a class, and one too few of another.
    whole = bool((np.abs(excess - np.rint(excess)) <= slack).all())
    if not whole or abs(excess.sum()) > slack or np.maximum(excess, 0).sum() > wrong + slack:
        raise DataError(
            f"it said that {right} of {count} samples are right, and that the model takes up to "
            f"{excess.max():.6g} too many for a class, and {np.maximum(excess, 0).sum():.6g} in all"
        )
    # What is said is at least as probable as the true class, and as probable where that is said.
    least, most = count / reading.classes, float(count)
    if trained.loss is not None:
        least, most = max(least, trained.loss.before), min(most, trained.loss.before + wrong)
        slack += trained.loss.uncertain
    slack += _ROUNDING_OF_SUMS * count
    if not least - slack <= reading.confidence * count <= most + slack:
        raise DataError(
            f"it said that what the model says has a mean probability of {reading.confidence:.6g}, "
            f"which by its other answers is from {least / count:.6g} to {most / count:.6g}"
        )


def check_against_trained(scored: Scored, trained: Scored) -> None:
    """Raise :class:`DataError` if a score does not go with what a holder said of the trained model.

    Both have to come from the same way of scoring, and rounding explains small differences.
    """
    loss, before = scored.loss, trained.loss
    if loss is None or before is None:
        return
    count = loss.count
    slack = _ROUNDING_OF_PROBABILITY * count + before.uncertain + loss.uncertain
    if abs(before.total) > slack or before.newly_wrong > trained.clean.uncertain:
        raise DataError(f"the trained model cannot have lost anything since itself; got {before}")
    if abs(loss.before - before.before) > slack:
        raise DataError(
            f"it said that the trained model gives its classes {before.before} in all, and then "
            f"{loss.before}"
        )
    right_before, doubt = trained.clean.total, trained.clean.uncertain + scored.clean.uncertain
    newly_right = loss.newly_wrong - (right_before - scored.clean.total)
    if not (
        loss.newly_wrong <= right_before + doubt
        and -doubt <= newly_right <= count - right_before + doubt
    ):
        raise DataError(
            f"{loss.newly_wrong} samples cannot be newly wrong, if {right_before} of {count} were "
            f"right, and {scored.clean.total} are now"
        )


def readings_apart(answers: Mapping[str, Answer]) -> dict[str, DataError]:
    """Return what is wrong with holders that do not take the model's scores for what most do.

    With few samples, the logits of a model with one output may all look like probabilities.
    """
    read = {name: _read_as(answer.reading) for name, answer in answers.items()}
    counted = Counter(read.values())
    return {
        name: DataError(
            f"it reads the model's scores as {each}, and others as "
            f"{' or '.join(sorted(set(counted) - {each}))}: holders do not agree on that. Do all "
            'have the same model, and score it alike? If so, state outputs="logits" or '
            'outputs="probabilities"'
        )
        for name, each in read.items()
        if 2 * counted[each] <= len(answers)
    }


def _read_as(reading: Reading | None) -> str:
    if reading is None:
        return "worth of its own"
    number = "one score" if reading.single else f"{reading.classes} classes"
    return f"{reading.outputs} of {number}"


def contradiction(said: Scored, now: Scored) -> DataError | None:
    """Return what is wrong if a holder says two things of one candidate, or nothing.

    A holder that says one thing while the search runs, ``said``, and another when the candidate is
    run in full, is faulty or lies, and could otherwise keep any purified model from being
    confirmed. Rounding explains a difference of what was uncertain of ``said``; it moves the
    probabilities of the trained model as well.

    >>> contradiction(Scored(Tally(9, 10, uncertain=1)), Scored(Tally(8, 10)))
    >>> contradiction(Scored(Tally(9, 10, uncertain=1)), Scored(Tally(1, 10)))
    DataError('it said that a candidate scores 9, and then 1')
    """
    slack = _ROUNDING_OF_TOTALS * max(abs(said.clean.total), 1)
    if abs(now.clean.total - said.clean.total) > said.clean.uncertain + slack:
        return DataError(
            f"it said that a candidate scores {said.clean.total}, and then {now.clean.total}"
        )
    if said.loss and now.loss:
        slack = _ROUNDING_OF_PROBABILITY * now.loss.count + 2 * said.loss.uncertain
        if abs(now.loss.total - said.loss.total) > slack:
            return DataError(
                f"it said that a candidate loses {said.loss.total}, and then {now.loss.total}"
            )
    return None
