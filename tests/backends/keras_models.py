"""Keras models with the habits that make a cut hard, and never a square layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as L
from keras import ops


def cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(6, 3, padding="same", activation="relu", name="conv1"),
            L.MaxPooling2D(),
            L.BatchNormalization(),
            L.Conv2D(5, 3, strides=2, name="conv2", use_bias=False),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(7, activation="tanh", name="fc1"),
            L.Dense(4, activation="softmax", name="fc2"),
        ]
    )


def residual() -> keras.Model:
    x = keras.Input((8,))
    h = L.Dense(6, activation="relu", name="first")(x)
    side = L.Dense(6, activation="sigmoid", name="side")(x)
    h = L.add([L.Dense(6, name="block")(L.Dense(9, name="wide")(h)), h]) * side
    return keras.Model(x, L.Dense(3, name="head")(L.LayerNormalization()(h)))


def nested() -> keras.Model:
    x = keras.Input((8,))
    inner = keras.Sequential(
        [L.Dense(5, activation=L.LeakyReLU(), name="a"), L.Dense(6, name="b")], name="inner"
    )
    y = keras.Input((6,))
    other = keras.Model(y, ops.tanh(L.Dense(7, name="c")(y)) + 1.0, name="other")
    return keras.Model(x, L.Dense(3, name="head")(other(inner(x))))


def shared() -> keras.Model:
    x = keras.Input((6,))
    twice = L.Dense(6, activation="relu", name="twice")
    return keras.Model(x, L.Dense(3, name="head")(twice(twice(x))))


def sequence() -> keras.Model:
    tokens = keras.Input((5,), dtype="int32")
    h = L.Embedding(20, 8, mask_zero=True)(tokens)
    h = L.EinsumDense("abc,cd->abd", (None, 9), bias_axes="d", activation="gelu", name="mix")(h)
    h = L.MultiHeadAttention(2, 4, name="attention")(h, h)
    h = L.LSTM(7)(L.Dense(6, name="step")(h))
    return keras.Model(tokens, L.Dense(3, name="head")(h))


def signal() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 4)),
            L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu", name="causal"),
            L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", name="depth"),
            L.Conv1D(8, 3, groups=4, name="grouped"),
            L.Conv1DTranspose(5, 3, strides=2, padding="same", name="up"),
            L.GlobalAveragePooling1D(),
            L.Dense(3, name="head"),
        ]
    )


def image() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7, 6, 3)),
            L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depth"),
            L.Conv2DTranspose(4, 3, strides=2, name="up"),
            L.SeparableConv2D(5, 3, name="separable"),
            L.GlobalMaxPooling2D(),
            L.Dense(3, name="head"),
        ]
    )


def volume() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 5, 3, 2)),
            L.Conv3D(5, 2, name="conv", activation="relu"),
            L.Conv3DTranspose(3, 2, name="up"),
            L.Flatten(),
            L.Dense(4, name="head"),
        ]
    )


class Block(L.Layer):
    def __init__(self, units: int, activation: Any) -> None:
        super().__init__()
        self.dense = L.Dense(units, activation=activation)
        self.norm = L.BatchNormalization()

    def call(self, x: Any, training: bool = False) -> Any:
        return self.norm(self.dense(x), training=training)


class Subclassed(keras.Model):
    """Takes what Keras cannot write down, and is changed after it was built."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.blocks = [Block(9, activation), Block(7, "relu")]
        self.drop = L.Dropout(0.5)
        self.head = L.Dense(3)
        self.temperature = 1.0

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.drop(x, training=training)) * self.temperature


def subclassed() -> keras.Model:
    model = Subclassed(lambda x: ops.relu(x) * 2)
    model(ops.ones((2, 8)))
    model.temperature = 3.0
    return model


class Decides(keras.Model):
    """Looks at values, which no engine can trace."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(5)
        self.head = L.Dense(3)

    def call(self, x: Any) -> Any:
        h = self.first(x)
        if float(keras.ops.convert_to_numpy(ops.max(h))) > 1e6:
            h = -h
        return self.head(ops.relu(h))


def decides() -> keras.Model:
    model = Decides()
    model(ops.ones((2, 8)))
    return model


class Beside(keras.Model):
    """Uses its input again after the layers, and one of two ways by what it holds."""

    def __init__(self, decides: bool) -> None:
        super().__init__()
        self.decides = decides
        self.ways = [L.Dense(6), L.Dense(6)]
        self.middle = L.Dense(5, name="middle")
        self.head = L.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        other = self.decides and float(keras.ops.convert_to_numpy(ops.mean(x))) > 0
        h = ops.relu(self.middle(self.ways[1 if other else 0](x)))
        return self.head(h * (1 + ops.mean(x, axis=1, keepdims=True)))


def beside(decides: bool) -> keras.Model:
    model = Beside(decides)
    model(ops.ones((2, 8)))
    model(-ops.ones((2, 8)))
    return model


class Leaves(L.Layer):
    """Leaves something on itself for another part of the model."""

    def call(self, x: Any) -> Any:
        self.mean = ops.mean(x, axis=1, keepdims=True)
        return x * 1.0


class Tells(L.Layer):
    """Gives a number of Python beside its tensor."""

    def call(self, x: Any) -> Any:
        return x * 1.0, float(keras.ops.convert_to_numpy(ops.mean(x)))


class Aside(keras.Model):
    """What a layer knows of a batch reaches the scores beside the tensors that layers give."""

    def __init__(self, first: L.Layer) -> None:
        super().__init__()
        self.first = first
        self.middle = L.Dense(5, name="middle")
        self.head = L.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        h = self.first(x)
        h, mean = h if isinstance(h, tuple) else (h, self.first.mean)
        return self.head(ops.relu(self.middle(h))) + mean * ops.convert_to_tensor([1.0, -1.0, 2.0])


def aside(first: type[L.Layer]) -> keras.Model:
    model = Aside(first())
    model(ops.ones((2, 8)))
    return model


def masked(inside: bool) -> keras.Model:
    """Later layers leave out the padding, which a layer finds, or one inside another."""
    tokens = keras.Input((5,), dtype="int32")
    embedding = L.Embedding(20, 8, mask_zero=True)
    h = keras.Sequential([embedding])(tokens) if inside else embedding(tokens)
    h = L.Dense(6, activation="relu", name="middle")(h)
    h = L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 4)(h, h))
    return keras.Model(tokens, L.Dense(3, name="head")(h))


def several_outputs() -> keras.Model:
    x = keras.Input((8,))
    h = L.Dense(6, activation="relu", name="body")(x)
    scores = L.Dense(3, name="scores")(h)
    return keras.Model(x, [L.Dense(2, name="other")(h), scores])


def several_inputs() -> keras.Model:
    a, b = keras.Input((8,), name="a"), keras.Input((3,), name="b")
    h = L.Concatenate()([L.Dense(5, activation="relu", name="left")(a), b])
    return keras.Model([a, b], L.Dense(4, name="head")(h))


def fingerprint(model: keras.Model) -> list[bytes]:
    """The weights of a model, to see whether one has changed."""
    return [weight.tobytes() for weight in model.get_weights()]
