"""The embedded example as it ships: the same models in two formats, as the exporter writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flain_numpy
from flain_cli import example
from flain_core.opening.registry import open_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models  # noqa: E402
from onnx import numpy_helper  # noqa: E402


def test_both_formats_of_the_example_hold_the_same_model():
    clean = np.load(example.files().paths[3])["x"]
    pairs = zip(example.files(".npz").paths[:2], example.files(".onnx").paths[:2], strict=True)
    for arrays, exported in pairs:
        network = flain_numpy.load(arrays)
        stored = {
            each.name: numpy_helper.to_array(each) for each in onnx.load(exported).graph.initializer
        }
        layers = [each for each in network.operations if hasattr(each, "weight")]
        assert len(stored) == 2 * len(layers)
        for layer in layers:
            np.testing.assert_array_equal(stored[f"{layer.name}.weight"], layer.weight)
            np.testing.assert_array_equal(stored[f"{layer.name}.bias"], layer.bias)
        scores, expected = open_network(exported).predict(clean), network.predict(clean)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
        onnx.checker.check_model(exported, full_check=True)


def test_the_exported_example_is_small_and_says_nothing_of_where_it_was_made():
    paths = example.files(".onnx").paths[:2]
    assert sum(path.stat().st_size for path in paths) < 1_000_000
    for path in paths:
        model = onnx.load(path)
        assert model.producer_name == "pytorch"
        for node in model.graph.node:
            assert not any(
                "/" in entry.value for entry in node.metadata_props if "stack" in entry.key
            )


@pytest.mark.slow
def test_the_exporter_gives_what_ships(tmp_path):
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)
    script = Path(__file__).parents[2] / "benchmarks" / "export_example.py"
    copy = example.copy_to(tmp_path, ".onnx")
    record = example.files().folder / "training.json"
    (tmp_path / "training.json").write_bytes(record.read_bytes())
    for path in copy.paths[:2]:
        path.unlink()
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    for made, shipped in zip(copy.paths[:2], example.files(".onnx").paths[:2], strict=True):
        pair = onnx.load(made), onnx.load(shipped)
        tensors = [onnx_models.tensors(each) for each in pair]
        assert tensors[0] == tensors[1]
        operations = [[node.op_type for node in each.graph.node] for each in pair]
        assert operations[0] == operations[1]
