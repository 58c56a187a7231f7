"""The networks of the parity check in NumPy, and in scikit-learn if it can express them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from parity_questions import Array, Arrays

from flain_numpy import (
    GELU,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Network,
    ReLU,
    Residual,
)

__all__ = ["numpy_network", "sklearn_perceptron"]

_HEADS = 3


def numpy_network(network: str, arrays: Arrays) -> Network:
    """A network with given parameters."""
    return Network(_OPERATIONS[network](arrays))


def _perceptron(arrays: Arrays) -> list[Any]:
    return [
        *(_dense(arrays, "fc1"), ReLU()),
        *(_dense(arrays, "fc2"), ReLU()),
        _dense(arrays, "fc3"),
    ]


def _example(arrays: Arrays) -> list[Any]:
    return [
        *(_conv(arrays, "conv1"), MaxPool2d(2), ReLU()),
        *(_conv(arrays, "conv2"), MaxPool2d(2), ReLU()),
        *(Flatten(), _dense(arrays, "fc1"), ReLU(), _dense(arrays, "fc2")),
    ]


def _resnet(arrays: Arrays) -> list[Any]:
    def normed(conv: str, stride: int = 1) -> list[Any]:
        return [_conv(arrays, conv, stride), _norm(arrays, conv.replace("conv", "bn"))]

    def block(name: str, stride: int, shortcut: list[Any]) -> list[Any]:
        first, second = normed(f"{name}.conv1", stride), normed(f"{name}.conv2")
        return [Residual([*first, ReLU(), *second], shortcut), ReLU()]

    return [
        *(*normed("conv1"), ReLU(), MaxPool2d(3, stride=2)),
        *block("block1", 1, []),
        *block("block2", 2, normed("block2.conv3", 2)),
        *(GlobalAvgPool2d(), _dense(arrays, "fc")),
    ]


def _transformer(arrays: Arrays) -> list[Any]:
    gelu = GELU(approximate=True)

    def block(name: str) -> list[Any]:
        first, second = (_dense(arrays, f"{name}.linear{each}") for each in (1, 2))
        return [
            Residual([_attention(arrays, f"{name}.attention")]),
            *(_layer_norm(arrays, f"{name}.norm1"), Residual([first, gelu, second])),
            _layer_norm(arrays, f"{name}.norm2"),
        ]

    embed, head = _dense(arrays, "embed"), _dense(arrays, "head")
    return [embed, *block("block1"), *block("block2"), Flatten(), head]


_OPERATIONS: dict[str, Callable[[Arrays], list[Any]]] = {
    "example": _example,
    "resnet": _resnet,
    "transformer": _transformer,
    "perceptron": _perceptron,
}


def _dense(arrays: Arrays, name: str) -> Dense:
    return Dense(name, arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def _conv(arrays: Arrays, name: str, stride: int = 1) -> Conv2d:
    weight = arrays[f"{name}.weight"]
    padding = weight.shape[-1] // 2
    return Conv2d(name, weight, arrays.get(f"{name}.bias"), stride=stride, padding=padding)


def _norm(arrays: Arrays, name: str) -> BatchNorm:
    return BatchNorm(
        mean=arrays[f"{name}.running_mean"],
        variance=arrays[f"{name}.running_var"],
        scale=arrays[f"{name}.weight"],
        shift=arrays[f"{name}.bias"],
    )


def _attention(arrays: Arrays, name: str) -> Callable[[Array], Array]:
    """Multi-head attention as a function, since flain_numpy has no such operation of its own."""

    def attention(x: Array) -> Array:
        samples, tokens, width = x.shape
        entering = x @ arrays[f"{name}.in_proj_weight"].T + arrays[f"{name}.in_proj_bias"]
        by_head = entering.reshape(samples, tokens, 3, _HEADS, width // _HEADS)
        query, key, value = by_head.transpose(2, 0, 3, 1, 4)
        likeness = query @ key.swapaxes(-1, -2) / np.float32((width // _HEADS) ** 0.5)
        likeness = np.exp(likeness - likeness.max(axis=-1, keepdims=True))
        mixed = likeness / likeness.sum(axis=-1, keepdims=True) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
        leaving: Array = mixed @ arrays[f"{name}.out_proj.weight"].T
        return leaving + arrays[f"{name}.out_proj.bias"]

    return attention


def _layer_norm(arrays: Arrays, name: str) -> Callable[[Array], Array]:
    def layer_norm(x: Array) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        normed: Array = x * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]
        return normed

    return layer_norm


def sklearn_perceptron(network: str, arrays: Arrays) -> Any:
    """A network with given parameters.

    Raises:
        NotImplementedError: The network is not a perceptron.
    """
    from sklearn.neural_network import MLPClassifier

    if network != "perceptron":
        raise NotImplementedError("a perceptron of scikit-learn has dense layers in a row")
    layers = [_dense(arrays, f"fc{number}") for number in (1, 2, 3)]
    *hidden, classes = (len(layer.weight) for layer in layers)
    features = layers[0].weight.shape[1]
    model = MLPClassifier(hidden_layer_sizes=hidden)
    # One step of training makes the attributes that are then replaced.
    y = np.arange(classes)
    model.partial_fit(np.zeros((classes, features), np.float32), y, classes=y)
    model.coefs_ = [layer.weight.T.copy() for layer in layers]
    model.intercepts_ = [np.array(layer.bias) for layer in layers]
    return model
