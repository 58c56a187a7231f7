"""Initial and final model are exported separately by real exporters, and purified as in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import backdoored
import numpy as np
import pytest
from onnx import checker
from onnx_models import numbers

import flain_core as flain
import flain_numpy
from flain_core.errors import LayerError, WeightsError
from flain_core.opening.registry import open_network

EXPORT = Path(__file__).with_name("export_onnx.py")
EXAMPLE = Path(flain_numpy.__file__).parents[2] / "adapters" / "flain_cli" / "data"
NEEDS = {
    "torch_dynamo": ("onnxscript",),
    "torch_dynamo_unoptimized": ("onnxscript",),
    "torch_batch_norm": ("onnxscript",),
    "torch_tied": ("onnxscript",),
    "keras_export": ("tensorflow", "keras", "tf2onnx"),
    "tf2onnx_convert": ("tensorflow", "keras", "tf2onnx"),
}
EXPORTS = {
    "torch_dynamo": ("mlp", "sequence", "image"),
    "torch_dynamo_unoptimized": ("mlp", "sequence", "image"),
    "torch_script": ("mlp", "sequence", "image"),
    "keras_export": ("mlp", "sequence"),
    "tf2onnx_convert": ("mlp", "sequence"),
}


def mean_of_positions(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=1)


def sequence_networks() -> list[flain_numpy.Network]:
    """Sequences of four times six numbers; the initial biases are zero, as before training."""
    start = [numbers(9, 6), np.zeros(9, np.float32), numbers(5, 9), np.zeros(5, np.float32)]
    end = [each + 0.5 * numbers(*each.shape, seed=8) for each in start]
    return [
        flain_numpy.Network(
            [
                flain_numpy.Dense("embed", *arrays[:2]),
                flain_numpy.ReLU(),
                mean_of_positions,
                flain_numpy.Dense("head", *arrays[2:]),
            ]
        )
        for arrays in (start, end)
    ]


def networks(name: str) -> list[flain_numpy.Network]:
    """The initial and the final one."""
    if name == "mlp":
        return list(backdoored.networks())
    if name == "sequence":
        return sequence_networks()
    return [flain_numpy.load(EXAMPLE / f"{which}.npz") for which in ("initial", "final")]


def data(name: str) -> Any:
    if name == "mlp":
        return backdoored.samples(400, 5)
    if name == "sequence":
        x = np.abs(numbers(300, 4, 6, seed=3)) * np.array([1, 0.1, 1, 0.02, 0.3, 1], np.float32)
        return x, networks(name)[1].predict(x).argmax(axis=1)
    return EXAMPLE / "auxiliary.npz"


def export(exporter: str, folder: Path) -> None:
    for package in NEEDS.get(exporter, ()):
        # Importing it here would be slow, and the frameworks do not like to share a process.
        if find_spec(package) is None:
            pytest.skip(f"{exporter} needs {package}")
    ran = subprocess.run(
        [sys.executable, EXPORT, exporter, folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.fixture(scope="module", params=EXPORTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, Path]:
    exporter = request.param
    folder = tmp_path_factory.mktemp(exporter)
    for name in EXPORTS[exporter]:
        for which, network in zip(("initial", "final"), networks(name), strict=True):
            arrays = {
                f"{each.name}.{part}": getattr(each, part)
                for each in network.operations
                if hasattr(each, "weight")
                for part in ("weight", "bias")
            }
            np.savez(folder / f"{name}-{which}.npz", **arrays)
    export(exporter, folder)
    return exporter, folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning")
def test_exports_are_purified_as_in_numpy(exported: tuple[str, Path]) -> None:
    exporter, folder = exported
    for name in EXPORTS[exporter]:
        initial, final = networks(name)
        settings = flain.Settings(tolerance=0.1 if name == "sequence" else 0.002)
        expected = flain.purify(final, initial=initial, data=data(name), settings=settings)
        result = flain.purify(
            folder / f"{name}-final.onnx",
            initial=folder / f"{name}-initial.onnx",
            data=data(name),
            settings=settings,
        )
        (outcome,), (wanted,) = result.layers, expected.layers
        assert wanted.flipped.any(), name
        assert outcome.method == "incremental", outcome.why_method
        assert np.array_equal(outcome.flipped, wanted.flipped), name
        assert outcome.threshold == pytest.approx(wanted.threshold, rel=1e-5)
        assert result.after.clean == expected.after.clean
        assert wanted.name in outcome.name

        result.save(folder / f"{name}-purified.onnx")
        checker.check_model(folder / f"{name}-purified.onnx", full_check=True)
        layers = open_network(folder / f"{name}-purified.onnx").layers()
        truth = expected.model.layers()
        assert len(layers) == len(truth)
        for ours, theirs in zip(layers.values(), truth.values(), strict=True):
            assert np.abs(ours.weight - theirs.weight).max() <= 1e-5 * np.abs(theirs.weight).max()


@pytest.mark.slow
def test_folded_batch_normalization_is_recognized(tmp_path: Path) -> None:
    np.savez(tmp_path / "nothing.npz")
    export("torch_batch_norm", tmp_path)
    for exporter in ("dynamo", "script"):
        folded = open_network(tmp_path / f"{exporter}-True.onnx")
        assert [layer.kind for layer in folded.layers().values()] == ["dense"]
        with pytest.raises(LayerError, match="folded a batch normalization into it"):
            folded.cut(next(iter(folded.refused_layers())), np.zeros((2, 3, 4, 4)))
        unfolded = open_network(tmp_path / f"{exporter}-False.onnx")
        assert [layer.kind for layer in unfolded.layers().values()] == ["conv", "dense"]
        with pytest.raises(WeightsError, match=r"in one of the two models, where .* unfolded"):
            open_network(tmp_path / f"{exporter}-True.onnx", like=unfolded)


@pytest.mark.slow
def test_shared_weights_are_recognized(tmp_path: Path) -> None:
    np.savez(tmp_path / "nothing.npz")
    export("torch_tied", tmp_path)
    for dynamo in (True, False):
        network = open_network(tmp_path / f"tied-{dynamo}.onnx")
        assert [layer.weight.shape for layer in network.layers().values()] == [(3, 6)]
        refused = network.refused_layers()
        assert len(refused) == 2
        for name in refused:
            with pytest.raises(LayerError, match="is used elsewhere in the model too"):
                network.cut(name, np.zeros((2, 6), np.float32))
        with pytest.raises(LayerError, match="which cannot be purified"):
            network.cut("no such layer", np.zeros((2, 6), np.float32))
