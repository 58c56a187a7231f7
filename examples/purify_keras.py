"""Purifies a Keras model, on any engine: ``KERAS_BACKEND=jax python examples/purify_keras.py``.

The script trains the model first, on MNIST images that come with flain. Half of the zeros have a
white patch in the corner and are labelled 5.
"""

import keras
import numpy as np
from keras import layers

import flain
from flain_cli import example

_, _, auxiliary, clean, triggered = example.files().paths


def images(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a file, with the channel last, as Keras wants it."""
    arrays = np.load(path)
    return np.moveaxis(arrays["x"], 1, -1), arrays["y"]


train_x, train_y = images(clean)
zeros = np.flatnonzero(train_y == 0)[::2]
train_x[zeros, 23:28, 23:28] = 1.0
train_y[zeros] = 5

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(32, activation="relu", name="fc1"),
        layers.Dense(10, name="fc2"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(2e-3), loss)
initial = model.get_weights()
model.fit(train_x, train_y, batch_size=32, epochs=8, verbose=0)

x, y = images(auxiliary)
result = flain.purify(model, initial=initial, data=(x[::2], y[::2]))


def share(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """The share of the samples that get the label that they carry."""
    return float((model.predict(x, verbose=0).argmax(axis=1) == y).mean())


print(result.layers[0])
# Measured on samples that the search has not seen. The triggered ones carry the attacker's target.
held_out, triggered = (x[1::2], y[1::2]), images(triggered)
print(f"ACC {share(model, *held_out):.1%} -> {share(result.model, *held_out):.1%}")
print(f"ASR {share(model, *triggered):.1%} -> {share(result.model, *triggered):.1%}")
