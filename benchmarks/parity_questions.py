"""The questions for every backend, and the form of its answers. No framework is imported here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

import flain_core as flain
from flain_core.activation import Statistic

__all__ = [
    "FLATTENED",
    "QUESTIONS",
    "REFUSALS",
    "WAYS",
    "Answer",
    "Array",
    "Arrays",
    "Question",
    "Refusal",
    "arrays_of",
    "channels_last",
    "samples_of",
    "write_arrays",
]

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
"""The parameters of a network by the names that PyTorch gives them."""

Rule: TypeAlias = Literal["default", "published", "accuracy"]


@dataclass(frozen=True)
class Question:
    """A layer of a network to purify, and how.

    Attributes:
        network: The network's name.
        layer: ``"auto"``, or a layer as the PyTorch module calls it.
        rule: ``"default"``: the default settings; ``"published"``: the published code's for FMNIST;
            ``"accuracy"``: neurons by accuracy, with every distinct activation as a threshold.
        tolerance: The tolerance of ``"accuracy"``, as a fraction of accuracy.
        statistic: Of ``"accuracy"``: ``"mean"`` after a ReLU or pixels, ``"mean_abs"`` elsewhere.
    """

    network: str
    layer: str = "auto"
    rule: Rule = "accuracy"
    tolerance: float = 0.01
    statistic: Statistic = "mean"

    @property
    def settings(self) -> flain.Settings:
        """How the search decides."""
        if self.rule == "default":
            return flain.Settings()
        if self.rule == "published":
            return flain.Settings.published("fmnist")
        return flain.Settings(
            measure="score", flip="neurons", tolerance=self.tolerance, statistic=self.statistic
        )

    def file(self, folder: Path, way: str) -> Path:
        """The file that holds the answer."""
        return folder / f"answer-{way}-{self.network}-{self.layer}-{self.rule}.npz"


QUESTIONS = (
    Question("example", rule="default"),
    Question("example", rule="published"),
    Question("example", tolerance=0.002),
    Question("example", "conv2", rule="published"),
    Question("example", "conv2"),
    Question("resnet", rule="default"),
    Question("resnet", tolerance=0.05),
    Question("resnet", "block1.conv2", tolerance=0.15),
    Question("resnet", "block2.conv1", tolerance=0.15),
    Question("resnet", "block2.conv2", tolerance=0.05),
    Question("transformer", rule="default"),
    Question("transformer"),
    Question("transformer", "block1.linear2", statistic="mean_abs"),
    Question("transformer", "block2.linear1", rule="default"),
    Question("transformer", "block2.linear1", statistic="mean_abs"),
    Question("perceptron", rule="default"),
    Question("perceptron", rule="published"),
    Question("perceptron"),
    Question("perceptron", "fc2", rule="default"),
    Question("perceptron", "fc2"),
)

WAYS = {
    "torch": "PyTorch",
    "numpy": "NumPy",
    "sklearn": "scikit-learn",
    "keras-tensorflow": "Keras on TensorFlow",
    "keras-jax": "Keras on JAX",
    "keras-torch": "Keras on PyTorch",
    "onnx-dynamo": "ONNX, torch dynamo",
    "onnx-script": "ONNX, TorchScript",
    "onnx-keras-tensorflow": "ONNX, Keras export on TensorFlow",
    "onnx-keras-torch": "ONNX, Keras export on PyTorch",
    "onnx-tf2onnx": "ONNX, tf2onnx",
}
"""Backends and exporters, with their names in the table."""


@dataclass(frozen=True)
class Refusal:
    """A question that cannot be answered.

    Attributes:
        reason: The reason in words for readers.
        told: What the error says; a regular expression if the refusal is expected.
    """

    reason: str
    told: str

    def save(self, path: Path) -> None:
        """Write the refusal where :meth:`Answer.load` looks for it."""
        path.with_suffix(".json").write_text(json.dumps(asdict(self)))


_CHAIN = Refusal(
    "cannot express: a perceptron of scikit-learn has dense layers in a row",
    "dense layers in a row",
)
_FOLDED = Refusal(
    "refused: tf2onnx folds the batch normalization into the convolution, so its weight is not the "
    "one that was trained",
    "the exporter folded a batch normalization into it",
)
_FAILS = Refusal(
    "cannot export: torch's exporter, which Keras calls, fails on Keras's layer normalization",
    "the exporter fails: Failed to export a node",
)

REFUSALS = {
    **{("sklearn", each): _CHAIN for each in QUESTIONS if each.network != "perceptron"},
    **{
        (way, each): _FOLDED
        for way in ("onnx-keras-tensorflow", "onnx-tf2onnx")
        for each in QUESTIONS
        if each.network == "resnet" and each.layer != "auto"
    },
    **{("onnx-keras-torch", each): _FAILS for each in QUESTIONS if each.network == "transformer"},
}
"""Questions without an answer, and why. Strict: an answer, or another reason, is an error."""

FLATTENED = {("example", "auto"): (32, 7, 7)}
"""Layers whose inputs are flattened images (channels, height, width)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The result of a purification, in the layout of the PyTorch module.

    Attributes:
        flip: ``"directions"`` or ``"neurons"``.
        threshold: The chosen threshold or strength.
        flipped: ``(in,)`` boolean.
        share: Share of the update's squared size that was flipped, from 0 to 1.
        weight: ``(out, in / groups, *kernel)``, purified.
        bias: ``(out,)``, purified; empty for a layer without one.
        scores: ``(n, classes)`` scores of the purified model, run in full on the auxiliary samples.
        method: ``"incremental"`` or ``"whole network"``.
    """

    flip: str
    threshold: float
    flipped: Array
    share: float
    weight: Array
    bias: Array
    scores: Array
    method: str

    def save(self, path: Path) -> None:
        """Write the answer."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Answer | Refusal:
        """Read an answer or a refusal."""
        if not path.exists():
            return Refusal(**json.loads(path.with_suffix(".json").read_text()))
        with np.load(path) as file:
            return cls(
                flip=str(file["flip"]),
                threshold=float(file["threshold"]),
                flipped=file["flipped"],
                share=float(file["share"]),
                weight=file["weight"],
                bias=file["bias"],
                scores=file["scores"],
                method=str(file["method"]),
            )


def channels_last(shape: tuple[int, int, int]) -> Array:
    """For each feature of an image flattened with channels last, its place with channels first.

    >>> channels_last((2, 1, 3)).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    places = np.arange(int(np.prod(shape))).reshape(shape)
    return places.transpose(1, 2, 0).reshape(-1)


def arrays_of(folder: Path, network: str, which: str) -> Arrays:
    """The parameters of the ``"initial"`` or the ``"final"`` network."""
    with np.load(folder / f"{network}-{which}.npz") as file:
        return {name: file[name] for name in file.files}


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write parameters where :func:`arrays_of` looks for them."""
    written: Mapping[str, Any] = arrays
    np.savez(path, **written)


def samples_of(folder: Path, network: str) -> tuple[Array, Array]:
    """The auxiliary samples; images have their channels first."""
    with np.load(folder / f"{network}-samples.npz") as file:
        return file["x"], file["y"]
