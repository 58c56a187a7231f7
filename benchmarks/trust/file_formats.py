"""Files that flain reads: for each format, small seeds, how they are mutated, how they are read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from . import archives, npy, raw, trees
from .children import OUT, Files, Reader
from .prepared import Mutate, Prepared

HDF5_TRIAL = "_trial"
"""What is in the command of the process in which flain_keras reads HDF5 for the first time."""


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
