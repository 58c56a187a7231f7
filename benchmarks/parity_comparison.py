"""Asks every backend in a process of its own, and compares its answers with PyTorch's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from parity_questions import QUESTIONS, REFUSALS, WAYS, Answer, Array, Question, Refusal

__all__ = ["HEADINGS", "Row", "compare", "markdown", "require_parity"]

# A threshold is a mean activation, which each engine rounds in its own way.
_THRESHOLDS_DIFFER = 1e-5
_WEIGHTS_DIFFER = 1e-5
_SCORES_DIFFER = 1e-5
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One answer compared with PyTorch's, or the reason why there is none.

    Attributes:
        network: Which network.
        layer: Which layer, as the PyTorch module calls it, or ``"auto"``.
        way: Which backend or exporter.
        refusal: Why there is no answer; the rest is then empty.
        told: What the error said.
        threshold: The chosen threshold.
        neurons: How many input neurons the layer has.
        flipped: How many of them were flipped.
        mask_equal: Whether PyTorch flipped the same ones.
        threshold_difference: Difference from PyTorch's threshold, relative to it.
        weight_difference: Largest difference of a purified weight, relative to the largest weight.
        score_difference: Largest difference of a score of the purified model, relative to the
            largest score.
        method: ``"incremental"`` or ``"whole network"``.
    """

    network: str
    layer: str
    way: str
    refusal: str | None = None
    told: str = ""
    threshold: float = 0.0
    neurons: int = 0
    flipped: int = 0
    mask_equal: bool = False
    threshold_difference: float = 0.0
    weight_difference: float = 0.0
    score_difference: float = 0.0
    method: str = ""

    @classmethod
    def of(cls, question: Question, way: str, given: Answer | Refusal, expected: Answer) -> Row:
        """Compare an answer with the expected one, which is PyTorch's."""
        if isinstance(given, Refusal):
            return cls(question.network, question.layer, way, given.reason, given.told)
        return cls(
            question.network,
            question.layer,
            way,
            threshold=given.threshold,
            neurons=given.flipped.size,
            flipped=int(given.flipped.sum()),
            mask_equal=np.array_equal(given.flipped, expected.flipped),
            threshold_difference=abs(given.threshold - expected.threshold)
            / (abs(expected.threshold) or 1.0),
            weight_difference=_difference(given.weight, expected.weight),
            score_difference=_difference(given.scores, expected.scores),
            method=given.method,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        name = f"{self.network}, {self.layer}"
        if self.refusal:
            return name, WAYS[self.way], self.refusal, "", "", "", "", ""
        return (
            name,
            WAYS[self.way],
            f"{self.threshold:.7g}",
            f"{self.flipped} of {self.neurons}",
            "yes" if self.mask_equal else "NO",
            f"{self.weight_difference:.1g}",
            f"{self.score_difference:.1g}",
            self.method,
        )


HEADINGS = (
    *("model, layer", "backend or exporter", "threshold", "flipped", "same mask"),
    *("weights differ by", "scores differ by", "method"),
)


def _difference(given: Array, expected: Array) -> float:
    if given.shape != expected.shape:
        return float("inf")
    return float(np.abs(given.astype(np.float64) - expected).max() / np.abs(expected).max())


def compare(networks: Collection[str], ways: Collection[str], folder: Path) -> Iterator[Row]:
    """Ask each way about the networks, PyTorch among them, and compare the answers with PyTorch's.

    Args:
        networks: Names of networks of the questions.
        ways: Keys of ``WAYS``.
        folder: An empty folder, for the files that the processes exchange.
    """
    _run("parity_torch.py", folder, *networks)
    for way in dict.fromkeys(("torch", *ways)):
        engine = way.split("-")[-1] if "keras" in way else "tensorflow"
        _run("parity_worker.py", way, folder, *networks, engine=engine)
    for question in QUESTIONS:
        if question.network in networks:
            expected = Answer.load(question.file(folder, "torch"))
            if isinstance(expected, Refusal):
                raise AssertionError(f"PyTorch refuses {question}: {expected.told}")
            for way in ways:
                given = Answer.load(question.file(folder, way))
                yield Row.of(question, way, given, expected)


def _run(script: str, *arguments: str | Path, engine: str = "torch") -> None:
    roots = (_ROOT, _ROOT / "backends", _ROOT / "adapters", os.environ.get("PYTHONPATH", ""))
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name(script), *arguments],
        env=os.environ
        | {
            "KERAS_BACKEND": engine,
            # The networks are small: several threads would only wait for each other.
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, roots)),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{script} {' '.join(map(str, arguments))} failed: {ran.stderr[-3000:]}")


def require_parity(row: Row) -> None:
    """Raise :class:`AssertionError` unless the row equals PyTorch's or is refused as expected."""
    asked = row.network, row.layer
    (question,) = (each for each in QUESTIONS if (each.network, each.layer) == asked)
    known = REFUSALS.get((row.way, question))
    if known is not None or row.refusal is not None:
        if known is None or row.refusal is None or not re.search(known.told, row.told):
            raise AssertionError(f"expected the refusal {known}; got {row}")
        return
    if not 0 < row.flipped < row.neurons:
        raise AssertionError(f"expected some neurons to be flipped, and others not; got {row}")
    equal = (
        row.mask_equal
        and row.threshold_difference <= _THRESHOLDS_DIFFER
        and row.weight_difference <= _WEIGHTS_DIFFER
        and row.score_difference <= _SCORES_DIFFER
    )
    if not equal:
        raise AssertionError(f"expected what PyTorch gives; got {row}")


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
