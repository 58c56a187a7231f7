"""The embedded example is purified as an ONNX model as it is in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models as models
import pytest
from by_neurons import BY_NEURONS
from onnx import ModelProto
from onnx_models import node, value

import flain_core as flain
import flain_numpy
from flain_core.opening.registry import open_network as open_anything
from flain_core.reporting.input_grid import InputGrid, find_grid
from flain_onnx import open_network

EXAMPLE = Path(flain_numpy.__file__).parents[2] / "adapters" / "flain_cli" / "data"


def converted(network: flain_numpy.Network) -> ModelProto:
    nodes, stored, last = [], {}, "x"
    for index, operation in enumerate(network.operations):
        out, kind = f"v{index}", type(operation).__name__
        inputs = [last]
        if kind in ("Dense", "Conv2d"):
            inputs += [f"{operation.name}.weight", f"{operation.name}.bias"]
            stored |= {f"{operation.name}__weight": operation.weight}
            stored |= {f"{operation.name}__bias": operation.bias}
        options: dict[str, Any] = {
            "Dense": {"op_type": "Gemm", "transB": 1},
            "Conv2d": {"op_type": "Conv", "pads": [1, 1, 1, 1]},
            "MaxPool2d": {"op_type": "MaxPool", "kernel_shape": [2, 2], "strides": [2, 2]},
            "ReLU": {"op_type": "Relu"},
            "Flatten": {"op_type": "Flatten"},
        }[kind]
        nodes.append(node(inputs=inputs, outputs=[out], **options))
        last = out
    return models.model(nodes, [value("x", "n", 1, 28, 28)], [value(last, "n", 10)], **stored)


def test_the_embedded_example_is_purified_as_in_numpy(tmp_path: Path) -> None:
    networks = {name: flain_numpy.load(EXAMPLE / f"{name}.npz") for name in ("final", "initial")}
    for name, network in networks.items():
        onnx.save(converted(network), tmp_path / f"{name}.onnx")
    expected = flain.purify(
        networks["final"], initial=networks["initial"], data=EXAMPLE / "auxiliary.npz"
    )
    result = flain.purify(
        tmp_path / "final.onnx", initial=tmp_path / "initial.onnx", data=EXAMPLE / "auxiliary.npz"
    )
    (outcome,), (wanted,) = result.layers, expected.layers
    assert outcome.method == "incremental"
    assert outcome.name == wanted.name == "fc1"
    assert np.array_equal(outcome.flipped, wanted.flipped)
    assert outcome.threshold == pytest.approx(wanted.threshold, rel=1e-5)
    assert result.after.clean == expected.after.clean
    result.save(tmp_path / "purified.onnx")
    written = open_anything(tmp_path / "purified.onnx").layers()["fc1"].weight
    # What enters the layer is rounded otherwise in the two engines.
    np.testing.assert_allclose(written, expected.model.layers()["fc1"].weight, rtol=0, atol=1e-6)
    assert {"onnx", "onnxruntime"} <= set(result.versions)


def test_protos_are_purified_layer_by_layer_as_in_numpy() -> None:
    initial, final = (flain_numpy.load(EXAMPLE / f"{name}.npz") for name in ("initial", "final"))
    given = converted(final)
    options: dict[str, Any] = {
        "data": EXAMPLE / "auxiliary.npz",
        "layers": ["conv2", "fc1"],
        "settings": BY_NEURONS,
    }
    expected = flain.purify(final, initial=initial, **options)
    result = flain.purify(given, initial=converted(initial), **options)
    assert isinstance(result.model, ModelProto)
    assert given.SerializeToString() == converted(final).SerializeToString()
    for outcome, wanted in zip(result.layers, expected.layers, strict=True):
        assert outcome.method == "incremental"
        assert np.array_equal(outcome.flipped, wanted.flipped)
    ours, theirs = open_network(result.model).layers(), expected.model.layers()
    assert all(np.array_equal(ours[name].weight, theirs[name].weight) for name in theirs)


def test_the_places_of_inputs_show_as_in_numpy() -> None:
    with np.load(EXAMPLE / "auxiliary.npz") as data:
        x = data["x"][:16]
    grids = []
    for suffix in (".npz", ".onnx"):
        network = open_anything(EXAMPLE / f"final{suffix}")
        grids.append(find_grid(network, network.layers()["fc1"], x))
    assert grids == [InputGrid(channels=32, rows=7, columns=7)] * 2
