"""Formats that flain reads: for each, small seeds, how they are mutated, and how they are read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from . import archives, messages, npy, raw, trees
from .children import OUT, Files, Reader

Mutate: TypeAlias = Callable[[Random], Files]

HDF5_TRIAL = "_trial"
"""What is in the command of the process in which flain_keras reads HDF5 for the first time."""


@dataclass(frozen=True)
class Prepared:
    """What a format needs in this process, with its libraries imported.

    Attributes:
        mutate: Makes a mutant.
        read: Reads one, the main file of it being at a path.
    """

    mutate: Mutate
    read: Reader


def numpy_models() -> Prepared:
    """Return ``.npz`` files of flain_numpy's networks."""
    import flain_numpy as fn

    network = fn.Network(
        [
            fn.Conv2d("conv", np.ones((2, 1, 3, 3), np.float32), padding=1),
            fn.ReLU(),
            fn.MaxPool2d(2),
            fn.Flatten(),
            fn.Dense("fc", np.ones((3, 32), np.float32), np.zeros(3, np.float32)),
        ]
    )
    seed = _bytes_of(lambda path: fn.save(network, path), "m.npz")
    x = np.ones((2, 1, 8, 8), np.float32)

    def read(path: Path) -> None:
        loaded = fn.load(path)
        loaded.layers()
        loaded.predict(x)
        fn.save(loaded, _out(path), overwrite=True)

    changes = {"network.npy": npy.description, ".npy": npy.mutated}
    return Prepared(_one("m.npz", [seed], changes), read)


def samples() -> Prepared:
    """Return ``.npz`` files of samples."""
    from flain_core.auxiliary.samples import Samples

    stream = io.BytesIO()
    np.savez(stream, x=np.ones((20, 1, 8, 8), np.float32), y=np.arange(20) % 3)

    def read(path: Path) -> None:
        read = Samples.of(path)
        list(read.batches())

    return Prepared(_one("d.npz", [stream.getvalue()], {".npy": npy.mutated}), read)


def safetensors() -> Prepared:
    """Return ``.safetensors`` files, and modules that they do or do not fit."""
    from . import safetensors_header

    seed, read = _torch_file("m.safetensors")
    return Prepared(_one("m.safetensors", [seed], None, safetensors_header.mutated), read)


def torch_files() -> Prepared:
    """Return ``.pt`` files of state dicts."""
    from . import pickles

    seed, read = _torch_file("m.pt")
    return Prepared(_one("m.pt", [seed], {"data.pkl": pickles.mutated}), read)


def onnx_models() -> Prepared:
    """Return ``.onnx`` files."""
    from . import onnx_seeds, protobufs

    return Prepared(_one("m.onnx", onnx_seeds.models(), None, protobufs.mutated), _read_onnx)


def onnx_external() -> Prepared:
    """Return ``.onnx`` files whose tensors lie in another file."""
    from . import onnx_seeds, protobufs

    model, data = onnx_seeds.with_external_data()

    def mutate(rng: Random) -> Files:
        changed = protobufs.external(rng, model)
        beside = raw.mutated(rng, data) if rng.random() < 0.3 else data
        if rng.random() < 0.2:
            changed = raw.mutated(rng, changed)
        return {"m.onnx": changed, "m.data": beside}

    return Prepared(mutate, _read_onnx)


def keras_archives() -> Prepared:
    """Return ``.keras`` files."""
    from . import hdf5

    def config(rng: Random, content: bytes) -> bytes:
        return trees.text(rng, trees.mutated(rng, json.loads(content), hdf5.WORDS))

    archived = [archives.packed(archives.members(each)) for each in _keras_files("m.keras")]
    changes = {"config.json": config, "metadata.json": config, ".h5": hdf5.mutated}
    return Prepared(_one("m.keras", archived, changes), _read_keras)


def keras_hdf5() -> Prepared:
    """Return ``.h5`` files of whole Keras models."""
    from . import hdf5

    def change(rng: Random, content: bytes) -> bytes:
        return rng.choice((hdf5.mutated, hdf5.described))(rng, content)

    return Prepared(_one("m.h5", _keras_files("m.h5"), None, change), _read_keras)


def questions_and_answers() -> Prepared:
    """Return messages of trusted clients, as arrays by name."""
    model, question, answers = _conversation()
    seeds = [*question, *answers]

    def mutate(rng: Random) -> Files:
        index = rng.randrange(len(seeds))
        kind = "question" if index < len(question) else "answer"
        return {f"{kind}.json": messages.mutated(rng, seeds[index])}

    def read(path: Path) -> None:
        _read_message(path.stem, messages.read(path.read_bytes()), model)

    return Prepared(mutate, read)


def flower_messages() -> Prepared:
    """Return messages as Flower carries them: each array as bytes with a type and a shape."""
    from flwr.app import Array, ArrayRecord, RecordDict

    from flain_flower.purify import to_arrays

    model, asked, _ = _conversation()

    def mutate(rng: Random) -> Files:
        arrays = messages.read(rng.choice(asked))
        kept: dict[str, Any] = {}
        for name, array in arrays.items():
            packed = Array(np.asarray(array))
            kept[name] = [packed.dtype, list(packed.shape), packed.stype, packed.data.hex()]
        name = rng.choice(list(kept))
        how = rng.random()
        if how < 0.6:
            change = rng.choice((npy.mutated, raw.mutated))
            kept[name][3] = change(rng, bytes.fromhex(kept[name][3])).hex()
        else:
            kept = trees.mutated(rng, kept, ("numpy.ndarray", "pickle", "<f8", "|O", [2**40]))
        return {"message.json": json.dumps(kept).encode("utf-8", "surrogatepass")}

    def read(path: Path) -> None:
        kept = json.loads(path.read_bytes())
        try:
            record = ArrayRecord(
                {
                    name: Array(dtype, tuple(shape), stype, bytes.fromhex(data))
                    for name, (dtype, shape, stype, data) in kept.items()
                }
            )
            RecordDict({"flain": record})
        # What Flower itself refuses never arrives.
        except (AttributeError, TypeError, ValueError):
            return
        _read_message("question", to_arrays(record, "flain"), model)

    return Prepared(mutate, read)


def flare_messages() -> Prepared:
    """Return messages as NVIDIA FLARE carries them, on their way to a client and back."""
    from nvflare.apis.dxo import DXO, DataKind
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

    from flain_core.federated.trusted import _TrustedHolders
    from flain_nvflare import TrustedClients, answering
    from flain_nvflare.trusted_clients import TASK, _arrays

    model, asked, answers = _conversation()
    words: tuple[Any, ...] = (
        "APP_DEFINED",
        "WEIGHTS",
        "DXO",
        "OK",
        "EXECUTION_EXCEPTION",
        "__dxo_header__",
        {},
    )

    class Client(answering.Answering):
        def samples(self, fl_ctx: FLContext) -> Any:  # noqa: ARG002
            return SAMPLES

        def log_exception(self, *given: Any, **named: Any) -> None:
            """Tell nobody."""

    # No job runs here, so there is no folder of one.
    vars(answering)["custom_folder"] = lambda _: Path()
    client = Client("unused.npz", model)
    server = _TrustedHolders(TrustedClients(clients="all"), ["site-1"])

    def mutate(rng: Random) -> Files:
        seed = rng.choice((*asked, *answers))
        if rng.random() < 0.6:
            seed = messages.mutated(rng, seed)
        envelope: Any = DXO(DataKind.APP_DEFINED, data={"x": 0}).to_shareable()
        plain = json.loads(json.dumps(dict(envelope)))
        if rng.random() < 0.5:
            plain = trees.mutated(rng, plain, words)
        kept = {"envelope": plain, "arrays": seed.decode()}
        return {"message.json": json.dumps(kept).encode("utf-8", "surrogatepass")}

    def read(path: Path) -> None:
        kept = json.loads(path.read_bytes())
        message = Shareable()
        if isinstance(kept["envelope"], dict):
            message.update(kept["envelope"])
            if isinstance(message.get("DXO"), dict):
                message["DXO"]["data"] = messages.read(kept["arrays"].encode())
        replied = client.execute(TASK, message, FLContext(), Signal())
        for each in (message, replied):
            said = server._answer("site-1", server._read(partial(_arrays, each), 1.0))
            if isinstance(said, Exception):
                raise said

    return Prepared(mutate, read)


FORMATS: Mapping[str, Callable[[], Prepared]] = {
    ".npz, models": numpy_models,
    ".npz, samples": samples,
    ".safetensors": safetensors,
    ".pt": torch_files,
    ".onnx": onnx_models,
    ".onnx, external data": onnx_external,
    ".keras": keras_archives,
    ".h5": keras_hdf5,
    "messages": questions_and_answers,
    "messages in Flower": flower_messages,
    "messages in FLARE": flare_messages,
}


def _one(
    name: str,
    seeds: list[bytes],
    changes: Mapping[str, archives.Change] | None,
    whole: archives.Change | None = None,
) -> Mutate:
    """Mutate files as bytes and by structure in turn."""

    def mutate(rng: Random) -> Files:
        seed = rng.choice(seeds)
        if rng.random() < 0.35:
            return {name: raw.mutated(rng, seed, rng.choice(seeds))}
        if whole is not None:
            return {name: whole(rng, seed)}
        return {name: archives.mutated(rng, seed, changes or {})}

    return mutate


def _bytes_of(save: Callable[[Path], object], name: str) -> bytes:
    with TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _out(path: Path) -> Path:
    """Return where the reader may write."""
    folder = path.parent / OUT
    folder.mkdir(exist_ok=True)
    return folder / path.name


def _torch_file(name: str) -> tuple[bytes, Reader]:
    import torch

    import flain_torch

    torch.set_num_threads(1)
    module = torch.nn.Linear(6, 3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.5)
    seed = _bytes_of(lambda path: flain_torch.save(module, path, mark="{}"), name)

    def read(path: Path) -> None:
        from flain_torch import weights_in

        weights_in(path)
        loaded = flain_torch.load(path, lambda: torch.nn.Linear(6, 3))
        flain_torch.open_network(loaded).predict(np.ones((2, 6), np.float32))
        flain_torch.save(loaded, _out(path), overwrite=True)

    return seed, read


def _read_onnx(path: Path) -> None:
    import flain_onnx

    network = flain_onnx.open_network(flain_onnx.load(path))
    layers = network.layers()
    network.refused_layers()
    flain_onnx.save(network.native, _out(path), overwrite=True)
    shapes = {
        each.name: [
            int(dim.dim_value) if 0 < dim.dim_value < 50 else 4
            for dim in each.type.tensor_type.shape.dim
        ]
        for each in network._batching.graph.model.graph.input
    }
    inputs = {name: np.ones(shape or [4], np.float32) for name, shape in shapes.items()}
    x: Any = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    network.predict(x)
    for layer in list(layers)[:2]:
        cut = network.cut(layer, x)
        cut.tail(cut.output)


def _keras_files(name: str) -> list[bytes]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import torch

    import flain_keras

    torch.set_num_threads(1)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = keras.Input((6,))
    z = layers.Dense(4, activation="relu", name="fc1")(x)
    branches = keras.Model(x, layers.Dense(3, name="fc2")(layers.Add()([z, layers.Dense(4)(z)])))
    images = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="conv"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="fc"),
        ]
    )
    words = keras.Sequential(
        [keras.Input((5,)), layers.Embedding(7, 4), layers.LSTM(3), layers.Dense(3)]
    )
    return [_bytes_of(partial(flain_keras.save, each), name) for each in (branches, images, words)]


def _read_keras(path: Path) -> None:
    from flain_core.opening import registry

    network: Any = registry.open_network(path)
    network.layers()
    network.refused_layers()


def _conversation() -> tuple[Any, list[bytes], list[bytes]]:
    """Return an architecture, questions about it, and answers to them."""
    import flain_numpy as fn
    from flain_core.federated.holder import answered
    from flain_core.federated.messages import ModelState, Question
    from flain_core.federated.wire import write_question, write_trained

    trained = fn.Network(
        [
            fn.Dense("fc1", np.ones((4, 6), np.float32)),
            fn.ReLU(),
            fn.Dense("fc2", np.eye(3, 4, dtype=np.float32)),
        ]
    )
    initial = np.zeros((4, 6), np.float32)
    flipping = ModelState(layer="fc1", initial=initial, order=np.array([3, 1, 0]), window=1e-6)
    changed = ModelState({"fc1": np.full((4, 6), 0.5, np.float32)}, "fc2")
    questions = [
        Question("statistics", ModelState(layer="fc1")),
        Question("proof", flipping, (2,), seed=3),
        Question("candidates", flipping, (0, 1, 3), loss=True),
        Question("in full", flipping, (1, 2), loss=True, outputs="logits"),
        Question("statistics", changed),
    ]
    asked = [write_question(each) | write_trained(trained) for each in questions]
    answers = [answered(each, trained, SAMPLES) for each in asked]
    return trained, list(map(messages.written, asked)), list(map(messages.written, answers))


SAMPLES = (np.random.default_rng(1).random((12, 6)).astype(np.float32), np.arange(12) % 3)
"""The samples of whoever is asked."""


def _read_message(kind: str, arrays: dict[str, Any], model: Any) -> None:
    """Read a question as a client does, or an answer as a server does."""
    from flain_core.federated.checks import check_answer
    from flain_core.federated.holder import answered
    from flain_core.federated.messages import ModelState, Question
    from flain_core.federated.wire import read_answer

    if kind == "question":
        answered(arrays, model, SAMPLES)
        return
    answer = read_answer(arrays)
    layer = model.layers()["fc1"]
    for task in ("statistics", "proof", "candidates", "in full"):
        question = Question(task, ModelState(layer="fc1"), (0, 1, 3), loss=True)
        try:
            check_answer(answer, question, layer=layer, probes=(), classify=True)
        # An answer fits one of them at most.
        except Exception as error:
            from flain_core import FlainError

            if not isinstance(error, FlainError):
                raise
