"""The networks of the parity check as Keras models, on the engine of the process, and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from parity_questions import Array, Arrays, channels_last

__all__ = ["export_by_keras", "export_by_tf2onnx", "keras_model"]

_HEADS = 3


def keras_model(network: str, arrays: Arrays) -> keras.Model:
    """A network with given parameters; images have their channels last."""
    return _MODELS[network](_Builder(arrays))


class _Builder:
    """Adds a layer after a tensor, with its parameters in Keras's layout.

    Names lose their dots, since the torch engine does not allow dots.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def _added(self, layer: Any, x: Any, *weights: Array | None) -> Any:
        y = layer(x)
        layer.set_weights([weight for weight in weights if weight is not None])
        return y

    def dense(self, x: Any, name: str, flattened: tuple[int, int, int] | None = None) -> Any:
        """After a flattened image (channels, height, width), the inputs have another order."""
        weight = self._arrays[f"{name}.weight"]
        if flattened:
            weight = weight[:, channels_last(flattened)]
        layer = layers.Dense(len(weight), name=_plain(name))
        return self._added(layer, x, weight.T, self._arrays[f"{name}.bias"])

    def conv(self, x: Any, name: str, stride: int = 1) -> Any:
        """A kernel ``(out, in, h, w)`` becomes ``(h, w, in, out)``."""
        weight, bias = self._arrays[f"{name}.weight"], self._arrays.get(f"{name}.bias")
        layer = layers.Conv2D(
            *(len(weight), weight.shape[-1], stride, "same"),
            use_bias=bias is not None,
            name=_plain(name),
        )
        return self._added(layer, x, weight.transpose(2, 3, 1, 0), bias)

    def batch_norm(self, x: Any, name: str) -> Any:
        parts = ("weight", "bias", "running_mean", "running_var")
        weights = (self._arrays[f"{name}.{part}"] for part in parts)
        return self._added(layers.BatchNormalization(epsilon=1e-5, name=_plain(name)), x, *weights)

    def layer_norm(self, x: Any, name: str) -> Any:
        weights = (self._arrays[f"{name}.{part}"] for part in ("weight", "bias"))
        return self._added(layers.LayerNormalization(epsilon=1e-5, name=_plain(name)), x, *weights)

    def attention(self, x: Any, name: str) -> Any:
        """PyTorch keeps query, key and value in one matrix; Keras splits each by head."""
        into, bias = (self._arrays[f"{name}.in_proj_{part}"] for part in ("weight", "bias"))
        width = into.shape[1]
        size = width // _HEADS
        weights: list[Array] = []
        for each, offset in zip(np.split(into, 3), np.split(bias, 3), strict=True):
            weights += [each.T.reshape(width, _HEADS, size), offset.reshape(_HEADS, size)]
        out = self._arrays[f"{name}.out_proj.weight"]
        weights += [out.T.reshape(_HEADS, size, width), self._arrays[f"{name}.out_proj.bias"]]
        layer = layers.MultiHeadAttention(_HEADS, size, name=_plain(name))
        y = layer(x, x)
        layer.set_weights(weights)
        return y


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _perceptron(build: _Builder) -> keras.Model:
    inputs = keras.Input((784,), name="x")
    x = layers.ReLU()(build.dense(inputs, "fc1"))
    x = layers.ReLU()(build.dense(x, "fc2"))
    return keras.Model(inputs, build.dense(x, "fc3"))


def _example(build: _Builder) -> keras.Model:
    x = inputs = keras.Input((28, 28, 1), name="x")
    for name in ("conv1", "conv2"):
        x = layers.ReLU()(layers.MaxPooling2D()(build.conv(x, name)))
    x = layers.Flatten()(x)
    x = layers.ReLU()(build.dense(x, "fc1", flattened=(32, 7, 7)))
    return keras.Model(inputs, build.dense(x, "fc2"))


def _resnet(build: _Builder) -> keras.Model:
    def normed(x: Any, conv: str, stride: int = 1) -> Any:
        return build.batch_norm(build.conv(x, conv, stride), conv.replace("conv", "bn"))

    def block(x: Any, name: str, stride: int) -> Any:
        shortcut = normed(x, f"{name}.conv3", stride) if stride > 1 else x
        y = layers.ReLU()(normed(x, f"{name}.conv1", stride))
        return layers.ReLU()(layers.Add()([normed(y, f"{name}.conv2"), shortcut]))

    inputs = keras.Input((28, 28, 1), name="x")
    x = layers.MaxPooling2D(3, 2)(layers.ReLU()(normed(inputs, "conv1")))
    x = block(block(x, "block1", stride=1), "block2", stride=2)
    return keras.Model(inputs, build.dense(layers.GlobalAveragePooling2D()(x), "fc"))


def _gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def _transformer(build: _Builder) -> keras.Model:
    inputs = keras.Input((28, 28), name="x")
    x = build.dense(inputs, "embed")
    for block in ("block1", "block2"):
        mixed = layers.Add()([x, build.attention(x, f"{block}.attention")])
        x = build.layer_norm(mixed, f"{block}.norm1")
        hidden = layers.Activation(_gelu)(build.dense(x, f"{block}.linear1"))
        x = layers.Add()([x, build.dense(hidden, f"{block}.linear2")])
        x = build.layer_norm(x, f"{block}.norm2")
    return keras.Model(inputs, build.dense(layers.Flatten()(x), "head"))


_MODELS: dict[str, Callable[[_Builder], keras.Model]] = {
    "example": _example,
    "resnet": _resnet,
    "transformer": _transformer,
    "perceptron": _perceptron,
}


def export_by_keras(network: str, arrays: Arrays, x: Array, out: Path) -> None:
    """Export with ``model.export(format="onnx")`` on the engine of the process."""
    model = keras_model(network, arrays)
    # Keras exports a model only after it has run once.
    model(x)
    model.export(str(out), format="onnx", verbose=False)


def export_by_tf2onnx(network: str, arrays: Arrays, x: Array, out: Path) -> None:
    """Export a function of TensorFlow with tf2onnx."""
    import tensorflow as tf
    import tf2onnx

    model = keras_model(network, arrays)
    signature = (tf.TensorSpec((None, *x.shape[1:]), tf.float32, name="x"),)
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, output_path=str(out))
