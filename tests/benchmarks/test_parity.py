"""The same network in every framework is purified in the same way; see docs/parity.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from parity_comparison import Row, compare, markdown, require_parity
from parity_questions import QUESTIONS, WAYS
from torch import nn

import flain_core as flain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NETWORKS = {question.network for question in QUESTIONS}
NEEDS = {
    "sklearn": ("sklearn",),
    "keras-tensorflow": ("keras", "tensorflow"),
    "keras-jax": ("keras", "jax"),
    "keras-torch": ("keras",),
    "onnx-dynamo": ("onnxruntime", "onnxscript"),
    "onnx-script": ("onnxruntime",),
    "onnx-keras-tensorflow": ("onnxruntime", "keras", "tensorflow", "tf2onnx"),
    "onnx-keras-torch": ("onnxruntime", "keras"),
    "onnx-tf2onnx": ("onnxruntime", "keras", "tensorflow", "tf2onnx"),
}


def missing(way: str) -> list[str]:
    return [package for package in NEEDS.get(way, ()) if find_spec(package) is None]


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    ways = [way for way in WAYS if not missing(way)]
    return list(compare(NETWORKS, ways, tmp_path_factory.mktemp("parity")))


@pytest.mark.parametrize("way", WAYS)
def test_every_network_comes_out_as_in_pytorch(everything: list[Row], way: str) -> None:
    if missing(way):
        pytest.skip(f"it needs {missing(way)}")
    rows = [row for row in everything if row.way == way]
    assert len(rows) == len(QUESTIONS)
    for row in rows:
        require_parity(row)


@pytest.mark.parametrize("network", sorted(NETWORKS - {"example"}))
def test_another_processor_trains_the_same_network(network: str, tmp_path: Path) -> None:
    """So no machine meets a network on which another number of neurons is flipped."""
    trained = []
    for instructions in ({}, {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}):
        folder = tmp_path / str(len(instructions))
        folder.mkdir()
        script = ROOT / "benchmarks/parity_torch.py"
        command = [sys.executable, str(script), str(folder), network]
        subprocess.run(command, env=os.environ | instructions, check=True)
        trained.append([read(folder / f"{network}-{which}.npz") for which in ("initial", "final")])
    for initial, final in trained:
        assert any((final[name] != array).any() for name, array in initial.items())
    for one, other in zip(*trained, strict=True):
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    if missing("onnx-dynamo"):
        pytest.skip(f"it needs {missing('onnx-dynamo')}")
    ways = ("torch", "numpy", "onnx-dynamo")
    return list(compare({"example"}, ways, tmp_path_factory.mktemp("parity")))


def test_the_example_comes_out_as_in_pytorch(few: list[Row]) -> None:
    asked = [
        *(("auto", "default"), ("auto", "published"), ("auto", "accuracy")),
        *(("conv2", "published"), ("conv2", "accuracy")),
    ]
    assert [(row.layer, row.rule, row.way) for row in few] == [
        (*each, way) for each in asked for way in ("torch", "numpy", "onnx-dynamo")
    ]
    for row in few:
        require_parity(row)
        assert row.method == "incremental"
        assert row.flip == ("directions" if row.rule == "default" else "neurons")


@pytest.mark.parametrize("rule", ["default", "accuracy"])
@pytest.mark.parametrize(
    "change",
    [
        {"mask_equal": False},
        {"threshold_difference": 2e-5},
        {"weight_difference": 2e-5},
        {"weight_difference": float("nan")},
        {"bias_difference": 2e-5},
        {"bias_difference": float("nan")},
        {"score_difference": 2e-5},
        {"flipped": 0, "share": 0.0},
        {"flipped": 1568, "share": 1.0},
        {"flip": "nothing"},
        {"refusal": "it could not", "told": "dense layers in a row"},
        {"way": "sklearn"},
        {"way": "sklearn", "refusal": "it could not", "told": "something else"},
    ],
    ids=str,
)
def test_what_differs_is_no_parity(few: list[Row], rule: str, change: dict[str, object]) -> None:
    row = next(each for each in few if each.rule == rule)
    require_parity(row)
    with pytest.raises(AssertionError, match="expected"):
        require_parity(replace(row, **change))


def test_a_bias_that_is_not_shown_is_no_parity_in_directions(few: list[Row]) -> None:
    by_rule = {row.rule: replace(row, bias_difference=None) for row in few}
    require_parity(by_rule["accuracy"])
    with pytest.raises(AssertionError, match="expected"):
        require_parity(by_rule["default"])


def test_the_page_shows_the_figures() -> None:
    figures = json.loads((ROOT / "benchmarks/results/parity.json").read_text())
    rows = [Row(**row) for row in figures["rows"]]
    assert len(rows) == len(QUESTIONS) * len(WAYS)
    for row in rows:
        require_parity(row)
    assert markdown(rows) in (ROOT / "docs/parity.md").read_text()


@pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning")
def test_padding_in_a_layer_of_its_own_lowers_the_threshold_and_flips_the_same() -> None:
    """As the page says, and as in many a Keras model."""
    x = np.random.default_rng(0).random((60, 3, 6, 5), dtype=np.float32)
    x *= np.array([0.1, 0.5, 1], np.float32).reshape(3, 1, 1)
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 7, 3, padding=1) for _ in ("initial", "final")]
    rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(7 * 6 * 5, 4))
    thresholds, masks = [], []
    for outside in (False, True):
        models = []
        for conv in convs:
            alone = nn.Conv2d(3, 7, 3, padding=0 if outside else 1)
            alone.load_state_dict(conv.state_dict())
            models.append(nn.Sequential(nn.ZeroPad2d(1 if outside else 0), alone, *rest).eval())
        y = models[1](torch.from_numpy(x)).argmax(1).numpy()
        result = flain.purify(
            models[1],
            initial=models[0],
            data=(x, y),
            layers="conv",
            settings=flain.Settings(measure="score", flip="neurons", tolerance=0.1),
        )
        thresholds.append(result.layers[0].threshold)
        masks.append(result.layers[0].flipped)
    np.testing.assert_array_equal(*masks)
    assert 0 < masks[0].sum() < masks[0].size
    assert thresholds[1] == pytest.approx(thresholds[0] * (6 * 5) / (8 * 7), rel=1e-5)
