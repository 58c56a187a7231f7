"""Inputs of ONNX models that samples do not lie along the first axis of."""

from __future__ import annotations

import numpy as np
import onnx_models as models
import pytest
from onnx import ModelProto
from onnx_models import node, numbers, value

import flain_core as flain
from flain_core.errors import ModelError
from flain_onnx import open_network

N = 5


def scaled(batch: int | str = "n") -> ModelProto:
    """6 → 4 → 3, times a number that is the same for all samples."""
    return models.model(
        [
            node("Gemm", ["x", "fc1.weight"], ["a"], transB=1),
            node("Mul", ["a", "scale"], ["b"]),
            node("Gemm", ["b", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", batch, 6), value("scale")],
        [value("scores", batch, 3)],
        fc1__weight=numbers(4, 6),
        fc2__weight=numbers(3, 4),
    )


def recurrent() -> ModelProto:
    """Two layers' states ``(2, n, 4)``, added up and to 6 → 4, → 3."""
    return models.model(
        [
            node("Gemm", ["x", "fc1.weight"], ["a"], transB=1),
            node("ReduceSum", ["state", "zero"], ["s"], keepdims=0),
            node("Add", ["a", "s"], ["b"]),
            node("Gemm", ["b", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", "n", 6), value("state", 2, "n", 4)],
        [value("scores", "n", 3)],
        zero=np.array([0]),
        fc1__weight=numbers(4, 6),
        fc2__weight=numbers(3, 4),
    )


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_a_number_that_all_samples_share(batch: int | str) -> None:
    x, scale = numbers(N, 6), np.full(N, 2.0, np.float32)
    network = open_network(scaled(batch))
    truth = 2 * x @ numbers(4, 6).T @ numbers(3, 4).T
    np.testing.assert_allclose(network.predict((x, scale)), truth, rtol=1e-4)
    for layer in ("fc1", "fc2"):
        cut = network.cut(layer, {"x": x, "scale": scale})
        np.testing.assert_allclose(cut.tail(cut.output), truth, rtol=1e-4)
        assert len(cut.inputs) == N
    with pytest.raises(ModelError, match="'scale' once for all samples"):
        network.predict((x, np.arange(N)))


def test_a_state_of_which_samples_are_the_second_axis() -> None:
    x, state = numbers(N, 6), numbers(N, 2, 4)
    network = open_network(recurrent())
    truth = (x @ numbers(4, 6).T + state.sum(axis=1)) @ numbers(3, 4).T
    np.testing.assert_allclose(network.predict((x, state)), truth, rtol=1e-4)
    cut = network.cut("fc1", (x, state))
    np.testing.assert_allclose(cut.tail(cut.output), truth, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_such_models_are_purified() -> None:
    n = 300
    x = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    for build, more in ((scaled, np.ones(n)), (recurrent, np.zeros((n, 2, 4)))):
        final = build()
        initial = models.retouched(final, lambda model: _halve(model, "fc1.weight"))
        y = open_network(final).predict((x, more)).argmax(axis=1)
        result = flain.purify(final, initial=initial, data=((x, more), y))
        assert result.before.clean == 1


def _halve(model: ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = np.frombuffer(tensor.raw_data, np.float32)
            tensor.raw_data = (array / 2).tobytes()
