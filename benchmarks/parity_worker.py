"""Lets one backend answer the questions: ``python parity_worker.py WAY FOLDER NETWORK...``.

Each backend has a process of its own, since a process can load Keras with only one engine, and the
frameworks do not share a process well.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from parity_questions import (
    FLATTENED,
    QUESTIONS,
    REFUSALS,
    Answer,
    Array,
    Arrays,
    Question,
    Refusal,
    arrays_of,
    channels_last,
    samples_of,
)

import flain_core as flain
from flain_core.opening.registry import open_network

Build = Callable[[str, Arrays], Any]


def answer(question: Question, way: str, folder: Path, models: Callable[[str], Any]) -> Answer:
    """Purify, and turn the result into the layout of the PyTorch module.

    Args:
        question: The question to answer.
        way: The backend or exporter that answers.
        folder: The folder that holds the networks.
        models: Returns the ``"initial"`` and the ``"final"`` model.
    """
    x, y = samples_of(folder, question.network)
    if _channels_are_last(way):
        x = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    final = models("final")
    network: Any = open_network(final)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        result = flain.purify(
            final,
            initial=models("initial"),
            data=(x, y),
            layers=_name_of(question, folder, network),
            settings=question.settings,
        )
    (outcome,) = result.layers
    purified = open_network(result.model, like=network)
    layer, flipped = purified.layers()[outcome.name], outcome.flipped
    weight, bias = layer.weight, np.zeros(0) if layer.bias is None else layer.bias
    flattened = FLATTENED.get((question.network, question.layer))
    if flattened and _channels_are_last(way):
        back = np.argsort(channels_last(flattened))
        weight, flipped = weight[:, back], flipped[back]
    threshold = float("nan") if outcome.threshold is None else outcome.threshold
    return Answer(
        flip=outcome.flip,
        threshold=threshold,
        flipped=flipped,
        share=outcome.share,
        weight=weight,
        bias=bias,
        scores=purified.predict(x),
        method=outcome.method,
    )


def _channels_are_last(way: str) -> bool:
    return "keras" in way or "tf2onnx" in way


def _name_of(question: Question, folder: Path, network: Any) -> str:
    """The backend's name for a layer; exporters invent names but keep the weights."""
    if question.layer == "auto":
        return question.layer
    wanted = arrays_of(folder, question.network, "final")[f"{question.layer}.weight"]
    for name, layer in network.layers().items():
        if np.array_equal(layer.weight, wanted):
            return str(name)
    # Asked for by name, a refused layer tells its reason.
    return next(str(name) for name in network.entries if _plain(question.layer) in name)


def _plain(name: str) -> str:
    return name.replace(".", "_")


def models_of(way: str, question: Question, folder: Path) -> Callable[[str], Any]:
    """The initial and the final model, built from the arrays or read from exported files."""
    if way.startswith("onnx-"):
        return lambda which: folder / _exported(way, question.network, which)
    build = _builder(way)
    return lambda which: build(question.network, arrays_of(folder, question.network, which))


def _exported(way: str, network: str, which: str) -> str:
    return f"{way}-{network}-{which}.onnx"


def _builder(way: str) -> Build:
    if way == "torch":
        from parity_torch import module

        return module
    if way.startswith("keras-"):
        from parity_keras import keras_model

        return keras_model
    from parity_arrays import numpy_network, sklearn_perceptron

    return {"numpy": numpy_network, "sklearn": sklearn_perceptron}[way]


def export(way: str, network: str, folder: Path) -> None:
    """Export the initial and the final network, one after the other."""
    exporter = _exporter(way)
    x, _ = samples_of(folder, network)
    x = np.moveaxis(x, 1, -1) if _channels_are_last(way) and x.ndim == 4 else x
    for which in ("initial", "final"):
        target = folder / _exported(way, network, which)
        try:
            exporter(network, arrays_of(folder, network, which), x[:2].copy(), target)
        # Each exporter fails in its own ways; REFUSALS lists the known ones.
        except Exception as error:
            begin = " ".join(str(error).split()[:5])
            raise NotImplementedError(f"the exporter fails: {begin}") from error


def _exporter(way: str) -> Callable[[str, Arrays, Array, Path], None]:
    if way in ("onnx-dynamo", "onnx-script"):
        from parity_torch import export_dynamo, export_script

        return export_dynamo if way == "onnx-dynamo" else export_script
    from parity_keras import export_by_keras, export_by_tf2onnx

    return export_by_tf2onnx if way == "onnx-tf2onnx" else export_by_keras


def main(way: str, folder: Path, networks: list[str]) -> None:
    """Answer every question about some networks."""
    for network in networks:
        questions = [question for question in QUESTIONS if question.network == network]
        try:
            if way.startswith("onnx-"):
                export(way, network, folder)
        except NotImplementedError as error:
            for question in questions:
                _known(error, question, way).save(question.file(folder, way))
            continue
        for question in questions:
            ask(question, way, folder).save(question.file(folder, way))


def ask(question: Question, way: str, folder: Path) -> Answer | Refusal:
    """Ask; an expected refusal is an answer, any other is an error."""
    try:
        return answer(question, way, folder, models_of(way, question, folder))
    except (NotImplementedError, flain.LayerError) as error:
        return _known(error, question, way)


def _known(error: Exception, question: Question, way: str) -> Refusal:
    if (way, question) not in REFUSALS:
        raise error
    return Refusal(REFUSALS[way, question].reason, str(error))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
