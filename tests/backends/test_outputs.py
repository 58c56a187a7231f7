"""A model with one output, or with probabilities, is purified without score= in each framework."""

from __future__ import annotations

from typing import Any

import pytest
from outputs_alike import ENDINGS, Ending, check, numpy_network, weights


@pytest.mark.parametrize("ending", ENDINGS)
def test_in_numpy(ending: Ending) -> None:
    check(lambda which: numpy_network(ending, which), ending)


@pytest.mark.parametrize("ending", ENDINGS)
def test_in_pytorch(ending: Ending) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def build(which: Any) -> Any:
        held = weights(ending, which)
        layers = [nn.Linear(12, 9), nn.Linear(9, len(held.fc2))]
        with torch.no_grad():
            for layer, weight, bias in zip(
                layers, (held.fc1, held.fc2), (held.bias1, held.bias2), strict=True
            ):
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))
        last = {"logit": [], "sigmoid": [nn.Sigmoid()], "softmax": [nn.Softmax(dim=1)]}[ending]
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], *last).eval()

    check(build, ending)


@pytest.mark.parametrize("ending", ENDINGS)
def test_in_onnx(ending: Ending) -> None:
    pytest.importorskip("onnxruntime")
    from onnx_models import model, node, value

    def build(which: Any) -> Any:
        held = weights(ending, which)
        last = "outputs" if ending == "logit" else "scores"
        ends = {"sigmoid": "Sigmoid", "softmax": "Softmax"}
        return model(
            [
                node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["z"], transB=1),
                node("Relu", ["z"], ["a"]),
                node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["outputs"], transB=1),
                *([node(ends[ending], ["outputs"], ["scores"])] if ending in ends else []),
            ],
            [value("x", "n", 12)],
            [value(last, "n", len(held.fc2))],
            fc1__weight=held.fc1,
            fc1__bias=held.bias1,
            fc2__weight=held.fc2,
            fc2__bias=held.bias2,
        )

    check(build, ending)
