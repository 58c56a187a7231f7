"""Everything that flain writes: how it is written with a number in it, and read again."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from .folders import new_folder


@dataclass(frozen=True)
class Writer:
    """A kind of file.

    Attributes:
        name: Of a file, its suffix included.
        write: Writes one all of whose weights are a number.
        number: Reads the number again; None where the weights are not all the same, as they would
            be in half a file, or in a model beside another one's data.
        beside: A regular expression for the names of files that belong to it.
    """

    name: str
    write: Callable[[Path, float, bool], object]
    number: Callable[[Path], float | None]
    beside: str | None = None

    def stray(self, folder: Path) -> list[str]:
        """Return what is in a folder beside the file and one file that belongs to it."""
        names = sorted(set(os.listdir(folder)) - {self.name})
        mine = [each for each in names if self.beside and re.fullmatch(self.beside, each)]
        return [each for each in names if each not in mine[:1]]


def _same(arrays: list[Any]) -> float | None:
    values = {float(each) for array in arrays for each in np.unique(np.asarray(array))}
    return values.pop() if len(values) == 1 else None


def numpy_writer() -> Writer:
    """Return the writer of ``.npz`` networks."""
    import flain_numpy as fn

    def write(path: Path, number: float, overwrite: bool) -> None:
        weights = np.full((300, 40), number), np.full((7, 300), number)
        layers = [fn.Dense(f"fc{index}", weight) for index, weight in enumerate(weights)]
        fn.save(fn.Network(layers), path, overwrite=overwrite, mark="{}")

    def read(path: Path) -> float | None:
        return _same([layer.weight for layer in fn.load(path).layers().values()])

    return Writer("model.npz", write, read)


def torch_writer(name: str) -> Writer:
    """Return the writer of ``.pt`` or ``.safetensors`` weights."""
    import torch

    import flain_torch

    torch.set_num_threads(1)

    def module() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(40, 300), torch.nn.Linear(300, 7))

    def write(path: Path, number: float, overwrite: bool) -> None:
        filled = module()
        with torch.no_grad():
            for parameter in filled.parameters():
                parameter.fill_(number)
        flain_torch.save(filled, path, overwrite=overwrite, mark="{}")

    def read(path: Path) -> float | None:
        return _same(list(flain_torch.weights_in(path).values()))

    return Writer(name, write, read)


def onnx_writer(*, external: bool) -> Writer:
    """Return the writer of ``.onnx`` models, with their tensors inside or beside."""
    from onnx import TensorProto, external_data_helper, helper, numpy_helper

    import flain_onnx

    info = helper.make_tensor_value_info

    def model(number: float) -> Any:
        tensors = [
            numpy_helper.from_array(np.full(shape, number, np.float32), name)
            for name, shape in (("fc1", (40, 300)), ("fc2", (300, 7)))
        ]
        nodes = [
            helper.make_node("MatMul", ["x", "fc1"], ["z"]),
            helper.make_node("MatMul", ["z", "fc2"], ["scores"]),
        ]
        inputs = [info("x", TensorProto.FLOAT, ["n", 40])]
        outputs = [info("scores", TensorProto.FLOAT, ["n", 7])]
        graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", 17)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if not external:
            return made
        folder, content = new_folder(), b""
        for tensor in made.graph.initializer:
            length = len(tensor.raw_data)
            external_data_helper.set_external_data(tensor, "theirs", len(content), length)
            content += tensor.raw_data
            tensor.ClearField("raw_data")
        (folder / "theirs").write_bytes(content)
        return flain_onnx.OnnxModel(made, folder)

    made = cache(model)

    def write(path: Path, number: float, overwrite: bool) -> None:
        flain_onnx.save(made(number), path, overwrite=overwrite, mark="{}")

    def read(path: Path) -> float | None:
        return _same(list(flain_onnx.stored_tensors(flain_onnx.load(path)).values()))

    beside = r"model\.onnx\.[0-9a-f]{16}\.data" if external else None
    return Writer("model.onnx", write, read, beside)


def keras_writer(name: str) -> Writer:
    """Return the writer of ``.keras`` or ``.h5`` models."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import torch

    import flain_keras

    torch.set_num_threads(1)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30), keras.layers.Dense(7)])

    def write(path: Path, number: float, overwrite: bool) -> None:
        model.set_weights([np.full(each.shape, number) for each in model.weights])
        flain_keras.save(model, path, overwrite=overwrite, mark="{}")

    def read(path: Path) -> float | None:
        # As a user of Keras would, and without the process that reads a stranger's file first.
        return _same(keras.saving.load_model(path, compile=False).get_weights())

    return Writer(name, write, read)


def report_writer(name: str) -> Writer:
    """Return the writer of reports."""
    import flain_core as flain
    import flain_numpy as fn

    network = fn.Network([fn.Dense("scores", np.eye(3, 6, dtype=np.float32))])
    start = fn.Network([fn.Dense("scores", np.zeros((3, 6), np.float32))])
    data = np.eye(6, dtype=np.float32)[[0, 1, 2] * 5], np.array([0, 1, 2] * 5)
    with warnings.catch_warnings(action="ignore"):
        results = {
            number: flain.purify(network, initial=start, data=data, seed=int(number))
            for number in (1.0, 2.0)
        }
    texts: dict[float, bytes] = {}

    def write(path: Path, number: float, overwrite: bool) -> None:
        results[number].report(path, overwrite=overwrite)
        texts.setdefault(number, path.read_bytes())

    def read(path: Path) -> float | None:
        content = path.read_bytes()
        return next((number for number, text in texts.items() if text == content), None)

    return Writer(name, write, read)


def command_writer() -> Writer:
    """Return ``flain purify``, as it writes a model and a report about it."""
    import flain_numpy as fn
    from flain_cli.run import ended_with

    folder, purified = new_folder(), dict[float, Any]()
    x = np.random.default_rng(0).random((60, 6)).astype(np.float32)
    weight = np.zeros((3, 6), np.float32)
    weight[:, :3] = np.eye(3)
    np.savez(folder / "data.npz", x=x, y=x[:, :3].argmax(axis=1))
    for number in (1.0, 2.0):
        fn.save(fn.Network([fn.Dense("scores", weight * number)]), folder / f"{number}.npz")
        fn.save(
            fn.Network([fn.Dense("scores", weight * 0)]), folder / "initial.npz", overwrite=True
        )

    def write(path: Path, number: float, overwrite: bool) -> None:
        words = ["purify", folder / f"{number}.npz", "--initial", folder / "initial.npz"]
        words += ["--data", folder / "data.npz", "-o", path, "--report", path.with_suffix(".json")]
        words += ["--quiet", *(["--overwrite"] if overwrite else [])]
        with redirect_stderr(StringIO()):
            code = ended_with(list(map(str, words)))
        if code not in (0, 3):
            raise RuntimeError(f"flain purify ended with {code}")
        purified.setdefault(number, weight_in(path))

    def weight_in(path: Path) -> Any:
        return fn.load(path).layers()["scores"].weight

    def read(path: Path) -> float | None:
        report = path.with_suffix(".json")
        if report.exists():
            # Half a report would be no JSON.
            json.loads(report.read_text(encoding="utf-8"))
        found = weight_in(path)
        return next((each for each, one in purified.items() if np.array_equal(one, found)), None)

    return Writer("model.npz", write, read, r"model\.json")


WRITERS: Mapping[str, Callable[[], Writer]] = {
    ".npz": numpy_writer,
    ".pt": lambda: torch_writer("model.pt"),
    ".safetensors": lambda: torch_writer("model.safetensors"),
    ".onnx": lambda: onnx_writer(external=False),
    ".onnx, external data": lambda: onnx_writer(external=True),
    ".keras": lambda: keras_writer("model.keras"),
    ".h5": lambda: keras_writer("model.h5"),
    "report, JSON": lambda: report_writer("report.json"),
    "report, page": lambda: report_writer("report.html"),
    "flain purify": command_writer,
}
