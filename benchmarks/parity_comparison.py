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

# A threshold is a mean activation or a variance, which each engine rounds in its own way.
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
        rule: By which rule: see :class:`Question`.
        way: Which backend or exporter.
        refusal: Why there is no answer; the rest is then empty.
        told: What the error said.
        flip: ``"directions"`` or ``"neurons"``.
        threshold: The chosen threshold, or the chosen strength.
        neurons: How many input neurons the layer has.
        flipped: How many of them were flipped; in directions, how many vary at most so much.
        share: Share of the update's squared size that was flipped.
        mask_equal: Whether PyTorch flipped the same ones.
        threshold_difference: Difference from PyTorch's threshold, relative to it.
        weight_difference: Largest difference of a purified weight, relative to the largest weight.
        bias_difference: Largest difference of a purified bias, relative to the largest one; None
            where either shows none, as of a layer that has none or adds it in a way of its own.
        score_difference: Largest difference of a score of the purified model, relative to the
            largest score.
        method: ``"incremental"`` or ``"whole network"``.
    """

    network: str
    layer: str
    rule: str
    way: str
    refusal: str | None = None
    told: str = ""
    flip: str = ""
    threshold: float = 0.0
    neurons: int = 0
    flipped: int = 0
    share: float = 0.0
    mask_equal: bool = False
    threshold_difference: float = 0.0
    weight_difference: float = 0.0
    bias_difference: float | None = None
    score_difference: float = 0.0
    method: str = ""

    @classmethod
    def of(cls, question: Question, way: str, given: Answer | Refusal, expected: Answer) -> Row:
        """Compare an answer with the expected one, which is PyTorch's."""
        asked = question.network, question.layer, question.rule, way
        if isinstance(given, Refusal):
            return cls(*asked, given.reason, given.told)
        return cls(
            *asked,
            flip=given.flip,
            threshold=given.threshold,
            neurons=given.flipped.size,
            flipped=int(given.flipped.sum()),
            share=given.share,
            mask_equal=given.flip == expected.flip
            and np.array_equal(given.flipped, expected.flipped),
            threshold_difference=abs(given.threshold - expected.threshold)
            / (abs(expected.threshold) or 1.0),
            weight_difference=_difference(given.weight, expected.weight),
            bias_difference=_difference(given.bias, expected.bias)
            if given.bias.size and expected.bias.size
            else None,
            score_difference=_difference(given.scores, expected.scores),
            method=given.method,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        name = f"{self.network}, {self.layer}, {self.rule}"
        if self.refusal:
            return name, WAYS[self.way], self.refusal, "", "", "", "", "", "", ""
        return (
            name,
            WAYS[self.way],
            f"{self.flip}, {self.threshold:.7g}",
            f"{self.flipped} of {self.neurons}",
            f"{self.share:.2%}",
            "yes" if self.mask_equal else "NO",
            f"{self.weight_difference:.1g}",
            "–" if self.bias_difference is None else f"{self.bias_difference:.1g}",
            f"{self.score_difference:.1g}",
            self.method,
        )


HEADINGS = (
    *("model, layer, settings", "backend or exporter", "flips, up to", "flipped"),
    *("share of the update", "same mask", "weights differ by", "biases differ by"),
    *("scores differ by", "method"),
)


def _difference(given: Array, expected: Array) -> float:
    if given.shape != expected.shape:
        return float("inf")
    if not expected.any():
        return float(given.any())
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
    asked = row.network, row.layer, row.rule
    (question,) = (each for each in QUESTIONS if (each.network, each.layer, each.rule) == asked)
    known = REFUSALS.get((row.way, question))
    if known is not None or row.refusal is not None:
        if known is None or row.refusal is None or not re.search(known.told, row.told):
            raise AssertionError(f"expected the refusal {known}; got {row}")
        return
    if row.flip == "directions":
        some = 0 < row.share < 1
    else:
        some = row.flip == "neurons" and 0 < row.flipped < row.neurons
    if not some:
        raise AssertionError(f"expected a part of the update to be flipped; got {row}")
    equal = (
        row.mask_equal
        and row.threshold_difference <= _THRESHOLDS_DIFFER
        and row.weight_difference <= _WEIGHTS_DIFFER
        and _biases_agree(row)
        and row.score_difference <= _SCORES_DIFFER
    )
    if not equal:
        raise AssertionError(f"expected what PyTorch gives; got {row}")


def _biases_agree(row: Row) -> bool:
    if row.bias_difference is None:
        # Flipped neurons leave a bias as it is; directions change it, so it has to be shown.
        return row.flip == "neurons"
    return row.bias_difference <= _WEIGHTS_DIFFER


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
