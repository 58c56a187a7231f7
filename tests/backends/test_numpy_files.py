"""Files of NumPy networks keep everything, and what is no such file is refused."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_networks import NETWORKS, norm, numbers, opened, sequence_network

import flain_numpy as fn
from flain_core.errors import ModelError, OutputError, WeightsError
from flain_core.network import Array


@pytest.mark.parametrize("name", NETWORKS)
def test_files_keep_everything(name: str, tmp_path: Path) -> None:
    network, x = opened(name)
    fn.save(network, tmp_path / "network.npz")
    again = fn.load(tmp_path / "network.npz")
    assert np.array_equal(again.predict(x), network.predict(x))
    assert list(again.layers()) == list(network.layers())
    for one, other in zip(again.layers().values(), network.layers().values(), strict=True):
        assert (one.kind, one.groups, one.weight.dtype) == (
            other.kind,
            other.groups,
            other.weight.dtype,
        )
        assert one.weight.tobytes() == other.weight.tobytes()
    fn.save(again, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "network.npz").read_bytes()


def test_files_keep_float_types_sharing_and_every_operation(tmp_path: Path) -> None:
    shared = fn.Conv2d("shared", numbers(2, 2, 1, 1).astype(np.float64))
    operations: list[Any] = [
        shared,
        fn.Residual([shared, fn.Sigmoid()]),
        fn.AvgPool2d((1, 2), padding=(0, 1)),
        fn.MaxPool2d(2, stride=1),
        norm(2),
        fn.GlobalAvgPool2d(),
        fn.GELU(approximate=True),
        fn.Dense("half", numbers(3, 2).astype(np.float16), numbers(3).astype(np.float16)),
        fn.Softmax(axis=1),
    ]
    network, x = fn.Network(operations), numbers(4, 2, 5, 6)
    fn.save(network, tmp_path / "network.npz")
    again = fn.load(tmp_path / "network.npz")
    assert np.array_equal(again.predict(x), network.predict(x))
    assert again.cut("shared", x).calls == 2
    assert again.layers()["half"].weight.dtype == np.float16


def test_save_refuses_foreign_operations_and_files_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot save .*tanh"):
        fn.save(fn.Network([np.tanh]), tmp_path / "network.npz")
    assert not list(tmp_path.iterdir())
    network = sequence_network()
    fn.save(network, tmp_path / "network.npz")
    with pytest.raises(OutputError, match="exists already"):
        fn.save(network, tmp_path / "network.npz")
    fn.save(network, tmp_path / "network.npz", overwrite=True)


def described(**changes: Any) -> dict[str, Any]:
    dense = {"operation": "Dense", "name": "fc", "weight": {"array": "w"}, "bias": None}
    return {
        "format": "flain_numpy.Network",
        "version": 1,
        "program": [0],
        "operations": [dense],
    } | changes


def written(path: Path, description: Any, **arrays: Any) -> Path:
    entry = description if isinstance(description, np.ndarray) else json.dumps(description)
    np.savez(path, **{"network": np.asarray(entry), "w": numbers(2, 3)} | arrays)
    return path


def dense_with(**fields: Any) -> dict[str, Any]:
    return described(operations=[described()["operations"][0] | fields])


def deeply_nested() -> Array:
    deep = '{"branch": [' * 100_000
    return np.array('{"format": "flain_numpy.Network", "version": 1, "program": [' + deep)


@pytest.mark.parametrize(
    "description",
    [
        described(version=2),
        described(format="somebody.else"),
        described(program=[1]),
        described(program=["0"]),
        described(program=None),
        described(program=[{"branch": [0]}]),
        described(operations=None),
        described(operations=[3]),
        described(operations=[{"name": "fc"}]),
        dense_with(operation="System"),
        dense_with(operation=["Dense"]),
        dense_with(operation="ReLU"),
        dense_with(name=3),
        dense_with(extra=3),
        dense_with(weight={"array": "missing"}),
        dense_with(weight=None),
        dense_with(weight="w"),
        dense_with(bias=2.5),
        dense_with(bias={"array": "network"}),
        [],
        {},
        3,
        np.array("{"),
        np.array(3.5),
        np.array(["{}", "{}"]),
        deeply_nested(),
    ],
)
def test_bad_descriptions_are_refused(description: Any, tmp_path: Path) -> None:
    written(tmp_path / "good.npz", described())
    assert fn.load(tmp_path / "good.npz").layers()["fc"].neurons == 3
    with pytest.raises(WeightsError, match=r"bad.npz: expected .* version 1; found") as caught:
        fn.load(written(tmp_path / "bad.npz", description))
    assert caught.value.__cause__ is not None


def test_files_that_would_need_unpickling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="allow_pickle"):
        fn.load(written(tmp_path / "bad.npz", described(), w=np.array([[print]])))
    with pytest.raises(WeightsError, match="allow_pickle"):
        fn.load(written(tmp_path / "worse.npz", np.array([print])))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("network", "text")
        file.writestr("w.npy", b"\x93NUMPY\x01\x00\x04\x00((((")
    array = io.BytesIO()
    np.save(array, numbers(2, 3))
    for content in (b"", b"PK", b"text", array.getvalue(), archive.getvalue()):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot read"):
            fn.load(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        fn.load(tmp_path / "missing.npz")
    with pytest.raises(WeightsError, match="expected a regular file"):
        fn.load(tmp_path)


@given(data=st.data())
@settings(max_examples=100)
def test_damaged_files_never_load_as_something_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    network = fn.Network([fn.Dense("fc", numbers(2, 3)), fn.ReLU()])
    path = tmp_path_factory.mktemp("damaged") / "network.npz"
    fn.save(network, path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(WeightsError):
        again = fn.load(path)
        assert np.array_equal(again.layers()["fc"].weight, network.layers()["fc"].weight)
