"""Questions and answers as arrays by name, which every federated-learning stack can carry.

Nothing is ever unpickled: what comes in is read as plain numbers and text, and refused if it is
anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from .activation import ActivationStatistics
from .errors import DataError
from .network import Array
from .proof import Proof
from .question import Answer, Question, Setting, Task
from .score import Scored, Tally

__all__ = ["read_answer", "read_question", "write_answer", "write_question"]

_WEIGHT = "weight of "
_STATISTICS = ("total", "total_abs", "total_square", "active")
_LONGEST_TEXT = 500


def write_question(question: Question) -> dict[str, Array]:
    """A question as arrays by name.

    Example:
        >>> question = Question("in full", Setting({"fc1": np.ones((2, 3))}), ends=(4, 7))
        >>> read_question(write_question(question)).ends
        (4, 7)
    """
    setting = question.setting
    arrays = {
        "task": _text(question.task),
        "layer": _text(setting.layer),
        "factor": np.float64(setting.factor),
        "order": setting.order.astype(np.int64),
        "window": np.float64(setting.window),
        "ends": np.array(question.ends, dtype=np.int64),
        "probes": np.int64(question.probes),
        "seed": np.int64(question.seed),
    }
    if setting.initial is not None:
        arrays["initial"] = setting.initial
    weights = {_WEIGHT + name: weight for name, weight in setting.weights.items()}
    return {name: np.asarray(array) for name, array in (arrays | weights).items()}


def read_question(arrays: Mapping[str, Array]) -> Question:
    """The question that was written as arrays.

    Raises:
        DataError: Something is missing or of the wrong type.
    """
    task = _read_text(arrays, "task")
    tasks = {known: known for known in get_args(Task)}
    if task not in tasks:
        raise DataError(f"expected a task among {', '.join(tasks)}; got {task!r}")
    setting = Setting(
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
        task=tasks[task],
        setting=setting,
        ends=tuple(_integers(arrays, "ends").tolist()),
        probes=bool(_number(arrays, "probes")),
        seed=int(_number(arrays, "seed")),
    )


def write_answer(answer: Answer) -> dict[str, Array]:
    """An answer as arrays by name. Of each candidate one row of (total, count, uncertain)."""
    arrays: dict[str, Array] = {}
    if answer.statistics is not None:
        arrays["count"] = np.asarray(answer.statistics.count, dtype=np.int64)
        arrays |= {name: getattr(answer.statistics, name) for name in _STATISTICS}
    if answer.proof is not None:
        arrays["faithful"] = np.asarray(answer.proof.faithful, dtype=np.int64)
        arrays["why"] = _text(answer.proof.why)
        arrays["error"] = np.asarray(answer.proof.error, dtype=np.float64)
    if answer.scored:
        arrays["clean"] = _rows([scored.clean for scored in answer.scored])
    return arrays


def read_answer(arrays: Mapping[str, Array]) -> Answer:
    """The answer that was written as arrays; whether it can be true is checked elsewhere.

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
            sums = {name: _floats(arrays, name).astype(float) for name in _STATISTICS[:3]}
        active = _integers(arrays, "active")
        statistics = ActivationStatistics(int(_number(arrays, "count")), **sums, active=active)
    if "faithful" in arrays:
        error = _number(arrays, "error", finite=False)
        why = f"a holder of samples found: {_read_text(arrays, 'why')}"
        proof = Proof(bool(_number(arrays, "faithful")), why, error)
    return Answer(statistics, proof, _scored(arrays) if "clean" in arrays else ())


def _scored(arrays: Mapping[str, Array]) -> tuple[Scored, ...]:
    with np.errstate(over="ignore"):
        rows = _floats(arrays, "clean").astype(float)
    if rows.ndim != 2 or rows.shape[1] != 3 or not np.isfinite(rows).all():
        raise DataError(
            "expected a finite (total, count, uncertain) of each candidate, shape (candidates, 3); "
            f"got shape {rows.shape}, or NaN or infinity"
        )
    if not (rows[:, 1] == np.floor(rows[:, 1])).all():
        raise DataError(f"expected whole numbers of samples; got {rows[:, 1]}")
    return tuple(
        Scored(Tally(_whole(total), int(count), uncertain))
        for total, count, uncertain in rows.tolist()
    )


def _rows(tallies: Sequence[Tally]) -> Array:
    return np.array([(one.total, one.count, one.uncertain) for one in tallies], dtype=np.float64)


def _whole(total: float) -> float:
    return int(total) if total.is_integer() else total


def _text(text: str) -> Array:
    return np.frombuffer(text.encode()[:_LONGEST_TEXT], dtype=np.uint8)


def _read_text(arrays: Mapping[str, Array], name: str) -> str:
    array = _array(arrays, name)
    if array.dtype != np.uint8 or array.ndim != 1 or array.size > _LONGEST_TEXT:
        raise DataError(f"expected {name!r} to be text in UTF-8; got {_kind(array)}")
    text = array.tobytes().decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _number(arrays: Mapping[str, Array], name: str, *, finite: bool = True) -> float:
    array = _array(arrays, name)
    if (
        array.size != 1
        or array.dtype.kind not in "fiu"
        or (finite and not np.isfinite(array).all())
    ):
        raise DataError(f"expected {name!r} to be a number; got {_kind(array)}")
    number: float = array.item()
    return number


def _floats(arrays: Mapping[str, Array], name: str) -> Array:
    array = _array(arrays, name)
    if array.dtype.kind != "f":
        raise DataError(f"expected {name!r} to hold floating-point numbers; got {_kind(array)}")
    return array


def _integers(arrays: Mapping[str, Array], name: str) -> Array:
    array = _array(arrays, name)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"expected {name!r} to hold whole numbers; got {_kind(array)}")
    return array.astype(np.int64)


def _array(arrays: Mapping[str, Array], name: str) -> Array:
    array = arrays.get(name)
    if not isinstance(array, np.ndarray):
        raise DataError(f"expected an array {name!r}; got {type(array).__name__}")
    return array


def _kind(array: Array) -> str:
    return f"{array.dtype} of shape {array.shape}"
