"""Mutates HDF5 files by what they hold: attributes, datasets, links, types."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from random import Random
from typing import Any

import h5py
import numpy as np

from . import raw, trees


def mutated(rng: Random, content: bytes) -> bytes:
    """Return a file with one to three changes of what it holds, or of its bytes."""
    if rng.random() < 0.3:
        return raw.mutated(rng, content)
    stream = BytesIO(content)
    with h5py.File(stream, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            # Some changes fit no file, such as a second dataset of one name.
            with suppress(IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError):
                rng.choice(_CHANGES)(rng, file)
    return stream.getvalue()


def described(rng: Random, content: bytes) -> bytes:
    """Return a file of a whole model with another description of it."""
    stream = BytesIO(content)
    with h5py.File(stream, "r+") as file:
        told = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = trees.text(rng, trees.mutated(rng, told, WORDS))[:60_000]
    return stream.getvalue()


WORDS: tuple[Any, ...] = (
    *("Dense", "Lambda", "Functional", "Sequential", "InputLayer", "RNN", "Bidirectional", "LSTM"),
    *("TFSMLayer", "TimeDistributed", "Embedding", "EinsumDense", "MultiHeadAttention", "Conv3D"),
    *("keras", "keras.layers", "keras.src.layers", "os", "builtins", "subprocess", "keras.utils"),
    *(
        "get_file",
        "system",
        "eval",
        "__lambda__",
        "__numpy__",
        "__tensor__",
        "__typespec__",
        "slice",
    ),
    *("float16", "mixed_float16", "int8", "string", "bfloat16", "same", "valid", "relu", "Zeros"),
    *("Orthogonal", "Identity", "GlorotUniform", "PolynomialDecay", "same_as_input"),
    *(["dense", 0, 0], [["dense", 0, 0, {}]], [None, 2**31], [None, 10**6], {"keras_history": []}),
    {
        "class_name": "__lambda__",
        "config": {"value": "4wEAAAA=", "defaults": None, "closure": None},
    },
    {"module": "os", "class_name": "system", "config": "touch outside", "registered_name": None},
    {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "function",
    },
    {"module": "keras.layers", "class_name": "Dense", "config": {"units": 10**6, "name": "d"}},
    {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}},
    },
    {
        "class_name": "TFSMLayer",
        "config": {"filepath": "../outside", "name": "t"},
        "module": "keras.layers",
    },
)


def _places(file: h5py.File) -> list[Any]:
    found = [file]
    file.visititems(lambda _, each: found.append(each))
    return found


def _attribute(rng: Random, file: h5py.File) -> None:
    holders = [each for each in _places(file) if len(each.attrs)]
    attributes = rng.choice(holders).attrs
    name = rng.choice(list(attributes))
    how = rng.random()
    if how < 0.2:
        del attributes[name]
        return
    attributes.pop(name, None) if hasattr(attributes, "pop") else None
    if how < 0.6:
        attributes[name] = rng.choice(
            ("", b"\xff", "a" * 60_000, -1, 2**62, 1.5, "../x", [b"a", b"b"], np.zeros(1000))
        )
    elif how < 0.75:
        attributes.create(name, "x", dtype=h5py.string_dtype())
    elif how < 0.85:
        attributes.create(name, file.ref, dtype=h5py.ref_dtype)
    else:
        attributes[name] = h5py.Empty(rng.choice(("f4", "S10")))


def _large(rng: Random, file: h5py.File) -> None:
    group = rng.choice([each for each in _places(file) if isinstance(each, h5py.Group)])
    shape = rng.choice(((2**40,), (2**20, 2**20), (2**31,), (10**4, 10**4)))
    group.create_dataset("large", shape, "f4", chunks=(2**10,) * len(shape), compression="gzip")


def _dataset(rng: Random, file: h5py.File) -> None:
    """Replace a dataset by another of its name."""
    names = [each.name for each in _places(file) if isinstance(each, h5py.Dataset)]
    name = rng.choice(names)
    # Never read: HDF5 crashes on a virtual dataset that is made of itself.
    shape_before = file[name].shape
    del file[name]
    how = rng.random()
    if how < 0.15:
        file.create_group(name)
    elif how < 0.3:
        shape = rng.choice(((2**40,), (0,), (), (10**9, 3), (7, 1)))
        file.create_dataset(name, shape, "f4", chunks=True if shape and 0 not in shape else None)
    elif how < 0.45:
        kinds = ("S5", "i1", "f2", ">f8", h5py.string_dtype(), h5py.vlen_dtype(np.int32), "c16")
        file.create_dataset(name, shape_before, rng.choice(kinds))
    elif how < 0.55:
        file.create_dataset(name, shape_before, [("a", "f4"), ("b", "i8", (2, 2))])
    elif how < 0.65:
        file.create_dataset(name, shape_before, h5py.ref_dtype)
    elif how < 0.75:
        file[name] = h5py.SoftLink(rng.choice((name, "/", "/nothing", "/" + "a" * 300)))
    elif how < 0.85:
        file[name] = h5py.ExternalLink(rng.choice(("../outside", "/etc/hostname", "m.h5")), "/")
    elif how < 0.93:
        file.create_dataset(name, (8,), "u1", external=[("../outside", 0, 8)])
    else:
        layout = h5py.VirtualLayout((8,), "u1")
        layout[:] = h5py.VirtualSource(rng.choice(("../outside", ".")), name, (8,))
        file.create_virtual_dataset(name, layout)


def _link(rng: Random, file: h5py.File) -> None:
    groups = [each for each in _places(file) if isinstance(each, h5py.Group)]
    group = rng.choice(groups)
    name = f"link{rng.randrange(10)}"
    how = rng.random()
    if how < 0.3:
        group[name] = rng.choice(groups)
    elif how < 0.5:
        group[name] = h5py.SoftLink(rng.choice(("/", ".", f"{group.name}/{name}", "../..")))
    elif how < 0.7:
        group[name] = h5py.ExternalLink("../outside", "/")
    elif how < 0.85:
        group[name] = np.dtype([("a", "f4"), ("b", "S3")])
    else:
        for _ in range(rng.choice((10, 200))):
            group = group.create_group("g")


def _gone(rng: Random, file: h5py.File) -> None:
    names = [each.name for each in _places(file) if each.name != "/"]
    del file[rng.choice(names)]


def _numbers(rng: Random, file: h5py.File) -> None:
    dataset = rng.choice([each for each in _places(file) if isinstance(each, h5py.Dataset)])
    if not (dataset.is_virtual or dataset.external):
        dataset[...] = rng.choice((float("nan"), float("inf"), 1e38))


_CHANGES: tuple[Callable[[Random, h5py.File], None], ...] = (
    *(_attribute, _attribute, _large, _dataset, _dataset, _link, _gone, _numbers),
)
