"""One network with a backdoor, 12 → 9 → 3 with a ReLU between, built in every framework."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from outputs_alike import Weights, samples, weights

import flain_core as flain
from flain_core.opening.registry import open_network

X, Y = samples("softmax")
INITIAL, FINAL = weights("softmax", "initial"), weights("softmax", "final")


def numpy_network(held: Weights) -> Any:
    from flain_numpy import Dense, Network, ReLU

    return Network([Dense("fc1", held.fc1, held.bias1), ReLU(), Dense("fc2", held.fc2, held.bias2)])


def torch_module(held: Weights) -> Any:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers = OrderedDict(fc1=nn.Linear(12, 9), relu=nn.ReLU(), fc2=nn.Linear(9, 3))
    tensors = map(torch.from_numpy, (held.fc1, held.bias1, held.fc2, held.bias2))
    module = nn.Sequential(layers)
    with torch.no_grad():
        for parameter, tensor in zip(module.parameters(), tensors, strict=True):
            parameter.copy_(tensor)
    return module


def onnx_model(held: Weights) -> Any:
    pytest.importorskip("onnxruntime")
    from onnx_models import model, node, value

    return model(
        [
            node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["z"], transB=1),
            node("Relu", ["z"], ["a"]),
            node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["scores"], transB=1),
        ],
        [value("x", "n", 12)],
        [value("scores", "n", 3)],
        fc1__weight=held.fc1,
        fc1__bias=held.bias1,
        fc2__weight=held.fc2,
        fc2__bias=held.bias2,
    )


def sklearn_perceptron(held: Weights) -> Any:
    neural = pytest.importorskip("sklearn.neural_network")
    model = neural.MLPClassifier((9,)).partial_fit(X, Y, classes=np.arange(3))
    model.coefs_ = [held.fc1.T.copy(), held.fc2.T.copy()]
    model.intercepts_ = [held.bias1.copy(), held.bias2.copy()]
    return model


def keras_model(held: Weights) -> Any:
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(9, activation="relu", name="fc1"),
            layers.Dense(3, name="fc2"),
        ]
    )
    model.set_weights([held.fc1.T, held.bias1, held.fc2.T, held.bias2])
    return model


BUILD: dict[str, Callable[[Weights], Any]] = {
    "numpy": numpy_network,
    "torch": torch_module,
    "onnx": onnx_model,
    "sklearn": sklearn_perceptron,
}
"""A function for each framework that a test can load beside the others."""


def purified(model: Any, initial: Any, *, x: np.ndarray = X, **options: Any) -> flain.Purification:
    """Purify the first layer."""
    return flain.purify(model, initial=initial, data=(x, options.pop("y", Y)), **options)


def first_weight(model: Any) -> np.ndarray:
    """Return the weight ``(9, 12)`` of the layer that is purified."""
    weight: np.ndarray = next(iter(open_network(model).layers().values())).weight
    return weight
