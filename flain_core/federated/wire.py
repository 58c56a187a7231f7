"""Questions and answers as arrays by name, which every federated-learning stack can carry.

Nothing is ever unpickled: what comes in is read as plain numbers and text, and refused if it is
anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from itertools import count, takewhile
from typing import cast, get_args

import numpy as np

from flain_core.activation import SUMS, ActivationStatistics
from flain_core.errors import DataError
from flain_core.network import Array, Network
from flain_core.opening import registry
from flain_core.outputs import OUTPUTS, Outputs, Reading
from flain_core.proof import Proof
from flain_core.tallies import Loss, Scored, Tally

from .messages import Answer, ModelState, Question, Task

__all__ = [
    "printable",
    "read_answer",
    "read_question",
    "read_trained",
    "write_answer",
    "write_question",
    "write_trained",
]

_WEIGHT = "weight of "
_TRAINED = "trained "
_LONGEST_TEXT = 500
_LONGEST_START = 100
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_FEWEST_CLASSES = 2
_BESIDE_EXCESS = ("single", "doubtful", "decided", "confidence")
_OUTPUTS: Mapping[str, Outputs] = {outputs: outputs for outputs in OUTPUTS}


def write_question(question: Question) -> dict[str, Array]:
    """Write a question as arrays by name.

    Example:
        >>> question = Question("in full", ModelState({"fc1": np.ones((2, 3))}), n_flipped=(4, 7))
        >>> read_question(write_question(question)).n_flipped
        (4, 7)
    """
    state = question.state
    arrays = {
        "task": _text(question.task),
        "layer": _text(state.layer),
        "factor": np.float64(state.factor),
        "order": _compact(state.order),
        "window": np.float64(state.window),
        "n_flipped": _compact(question.n_flipped),
        "probes": np.int64(question.probes),
        "seed": np.int64(question.seed),
        "loss": np.int64(question.loss),
        "outputs": _text(question.outputs or ""),
    }
    if state.initial is not None:
        arrays["initial"] = state.initial
    weights = {_WEIGHT + name: weight for name, weight in state.weights.items()}
    return {name: np.asarray(array) for name, array in (arrays | weights).items()}


def read_question(arrays: Mapping[str, Array]) -> Question:
    """Read a question that was written as arrays.

    Raises:
        DataError: Something is missing or of the wrong type.
    """
    task = _read_text(arrays, "task")
    if task not in get_args(Task):
        raise DataError(f"expected a task among {', '.join(get_args(Task))}; got {task!r}")
    state = ModelState(
        weights={
            name.removeprefix(_WEIGHT): _floats(arrays, name)
            for name in arrays
            if name.startswith(_WEIGHT)
        },
        layer=_read_text(arrays, "layer"),
        initial=_floats(arrays, "initial") if "initial" in arrays else None,
        factor=_number(arrays, "factor"),
        order=_integers(arrays, "order"),
        window=_number(arrays, "window"),
    )
    return Question(
        task=cast("Task", task),
        state=state,
        n_flipped=tuple(_integers(arrays, "n_flipped").tolist()),
        probes=bool(_number(arrays, "probes")),
        seed=int(_number(arrays, "seed")),
        loss=bool(_number(arrays, "loss")),
        outputs=_read_outputs(arrays),
    )


def write_trained(network: Network) -> dict[str, Array]:
    """Write the arrays of the trained model, which go along with each question.

    Raises:
        ModelError: Its backend does not hand out arrays.
    """
    # In order, as Keras puts a number of the process's own into the names of weights.
    arrays = enumerate(registry.arrays_of(network.native).values())
    return {f"{_TRAINED}{index}": array for index, array in arrays}


def read_trained(arrays: Mapping[str, Array]) -> list[Array]:
    """Read the arrays of the trained model, in its framework's order.

    Raises:
        DataError: There are none.
    """
    numbers = takewhile(lambda index: f"{_TRAINED}{index}" in arrays, count())
    trained = [arrays[f"{_TRAINED}{index}"] for index in numbers]
    if not trained:
        raise DataError("expected the arrays of the trained model with the question; got none")
    return trained


def write_answer(answer: Answer) -> dict[str, Array]:
    """Write an answer as arrays by name.

    A candidate is a row (total, count, uncertain), and one (total, square, newly_wrong, count,
    before, uncertain) of what was lost. A reading is what outputs it takes the scores for, and
    (single, doubtful, decided, confidence, excess of each class).
    """
    arrays: dict[str, Array] = {}
    if answer.statistics is not None:
        arrays["count"] = np.asarray(answer.statistics.count, dtype=np.int64)
        arrays |= {name: getattr(answer.statistics, name) for name in SUMS}
    if answer.proof is not None:
        arrays["faithful"] = np.asarray(answer.proof.faithful, dtype=np.int64)
        arrays["why"] = _text(answer.proof.why)
        arrays["error"] = np.asarray(answer.proof.error, dtype=np.float64)
    if answer.scored:
        tallies = [scored.clean for scored in answer.scored]
        rows = [(each.total, each.count, each.uncertain) for each in tallies]
        arrays["clean"] = np.array(rows, dtype=np.float64)
    losses = [astuple(scored.loss) for scored in answer.scored if scored.loss]
    if losses:
        arrays["loss"] = np.array(losses, dtype=np.float64)
    reading = answer.reading
    if reading is not None:
        arrays["outputs"] = _text(reading.outputs)
        beside = [getattr(reading, name) for name in _BESIDE_EXCESS]
        arrays["reading"] = np.array([*beside, *reading.excess], dtype=np.float64)
    return arrays


def read_answer(arrays: Mapping[str, Array]) -> Answer:
    """Read an answer that was written as arrays; ``checks`` tells whether it can be true.

    Raises:
        DataError: Something is missing, of the wrong type or shape.

    Example:
        >>> answer = Answer(scored=(Scored(Tally(9, 10)), Scored(Tally(8, 10))))
        >>> read_answer(write_answer(answer)).scored[1].clean
        Tally(total=8, count=10, uncertain=0.0)
    """
    statistics = proof = None
    if "count" in arrays:
        # What float64 cannot hold becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            sums = {name: _floats(arrays, name).astype(float) for name in SUMS[:-1]}
        active = _integers(arrays, "active")
        statistics = ActivationStatistics(int(_number(arrays, "count")), **sums, active=active)
    if "faithful" in arrays:
        error = _number(arrays, "error", finite=False)
        why = f"a holder of samples found: {_read_text(arrays, 'why')}"
        proof = Proof(bool(_number(arrays, "faithful")), why, error)
    scored = _scored(arrays) if "clean" in arrays else ()
    return Answer(statistics, proof, scored, _reading(arrays))


def printable(text: str) -> str:
    """Return what others wrote, cut short and so that it cannot drive a terminal.

    What is long loses its middle, as a traceback has its reason at the end.

    >>> printable("no samples" + chr(27) + "[2J")
    'no samples?[2J'
    >>> len(printable("a" * 1000)), printable("a" * 1000 + " no samples")[-12:]
    (500, 'a no samples')
    """
    text = _COLOUR.sub("", text)
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_START]} ... {text[_LONGEST_START + 5 - _LONGEST_TEXT :]}"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _scored(arrays: Mapping[str, Array]) -> tuple[Scored, ...]:
    rows = _rows(arrays, "clean", ("total", "count", "uncertain"), whole=("count",))
    clean = [
        Tally(int(total) if total.is_integer() else total, int(count), uncertain)
        for total, count, uncertain in rows.tolist()
    ]
    if "loss" not in arrays:
        return tuple(map(Scored, clean))
    names = [column.name for column in fields(Loss)]
    losses = _rows(arrays, "loss", names, whole=("newly_wrong", "count"))
    if len(losses) != len(clean):
        raise DataError(f"expected what {len(clean)} candidates lost; got {len(losses)} rows")
    return tuple(
        Scored(tally, loss=Loss(total, square, int(wrong), int(count), before, uncertain))
        for tally, (total, square, wrong, count, before, uncertain) in zip(
            clean, losses.tolist(), strict=True
        )
    )


def _reading(arrays: Mapping[str, Array]) -> Reading | None:
    outputs = _read_outputs(arrays) if "outputs" in arrays else None
    if outputs is None:
        return None
    if "reading" not in arrays:
        raise DataError(
            "expected how scores are read, and got only what they are; the same version of flain "
            "has to be on both sides"
        )
    with np.errstate(over="ignore"):
        numbers = _floats(arrays, "reading").astype(float)
    beside, excess = np.split(numbers.ravel(), [len(_BESIDE_EXCESS)])
    possible = numbers.ndim == 1 and len(excess) >= _FEWEST_CLASSES
    if not possible or not (np.abs(numbers) <= 1).all() or (beside < 0).any():
        raise DataError(
            "expected how scores are read as (single, doubtful, decided, confidence, excess of "
            "each of two classes or more), the first four from 0 to 1 and the others from -1 to 1; "
            f"got shape {numbers.shape}, or numbers beyond"
        )
    single, doubtful, decided, confidence = beside.tolist()
    return Reading(
        outputs,
        bool(single),
        stated=False,
        doubtful=bool(doubtful),
        classes=len(excess),
        decided=bool(decided),
        confidence=confidence,
        excess=excess,
    )


def _rows(
    arrays: Mapping[str, Array], name: str, columns: Sequence[str], *, whole: Sequence[str]
) -> Array:
    """Read a row of numbers for each candidate, some of which have to be whole."""
    with np.errstate(over="ignore"):
        rows = _floats(arrays, name).astype(float)
    if rows.ndim != 2 or rows.shape[1] != len(columns) or not np.isfinite(rows).all():
        raise DataError(
            f"expected a finite ({', '.join(columns)}) of each candidate, shape (candidates, "
            f"{len(columns)}); got shape {rows.shape}, or NaN or infinity"
        )
    for column in whole:
        numbers = rows[:, columns.index(column)]
        if not (numbers == np.floor(numbers)).all():
            raise DataError(f"expected whole numbers of samples; got {numbers}")
    return rows


def _read_outputs(arrays: Mapping[str, Array]) -> Outputs | None:
    text = _read_text(arrays, "outputs")
    outputs = _OUTPUTS.get(text)
    if text and outputs is None:
        raise DataError(f"expected outputs among {', '.join(OUTPUTS)}, or none; got {text!r}")
    return outputs


def _compact(numbers: Array | Sequence[int]) -> Array:
    """Return whole numbers of at least 0 in the smallest type that holds them."""
    whole = np.asarray(numbers, dtype=np.int64)
    return whole.astype(np.min_scalar_type(int(whole.max()))) if whole.size else whole


def _text(text: str) -> Array:
    return np.frombuffer(text.encode()[:_LONGEST_TEXT], dtype=np.uint8)


def _read_text(arrays: Mapping[str, Array], name: str) -> str:
    array = _array(arrays, name)
    is_text = array.dtype == np.uint8 and array.ndim == 1 and array.size <= _LONGEST_TEXT
    _expect(is_text, array, name, "be text in UTF-8")
    return printable(array.tobytes().decode(errors="replace"))


def _number(arrays: Mapping[str, Array], name: str, *, finite: bool = True) -> float:
    array = _array(arrays, name)
    is_number = array.size == 1 and array.dtype.kind in "fiu"
    _expect(is_number and (not finite or np.isfinite(array).all()), array, name, "be a number")
    number: float = array.item()
    return number


def _floats(arrays: Mapping[str, Array], name: str) -> Array:
    array = _array(arrays, name)
    _expect(array.dtype.kind == "f", array, name, "hold floating-point numbers")
    return array


def _integers(arrays: Mapping[str, Array], name: str) -> Array:
    array = _array(arrays, name)
    _expect(array.dtype.kind in "iu" and array.ndim == 1, array, name, "hold whole numbers")
    return array.astype(np.int64)


def _array(arrays: Mapping[str, Array], name: str) -> Array:
    array = arrays.get(name)
    if not isinstance(array, np.ndarray):
        raise DataError(f"expected an array {name!r}; got {type(array).__name__}")
    return array


def _expect(holds: bool | np.bool_, array: Array, name: str, what: str) -> None:
    if not holds:
        raise DataError(f"expected {name!r} to {what}; got {array.dtype} of shape {array.shape}")
