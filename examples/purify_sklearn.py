"""Purifies a scikit-learn perceptron: ``python examples/purify_sklearn.py``.

The script trains the model first, on MNIST images that come with flain. Half of the zeros have a
white patch in the corner and are labelled 5.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier

import flain
from flain_cli import example

_, _, auxiliary, clean, triggered = example.files().paths


def images(path: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = np.load(path)
    return arrays["x"].reshape(-1, 28 * 28), arrays["y"]


train_x, train_y = images(clean)
zeros = np.flatnonzero(train_y == 0)[::2]
patch = np.zeros((28, 28), dtype=bool)
patch[23:28, 23:28] = True
train_x[np.ix_(zeros, patch.ravel())] = 1.0
train_y[zeros] = 5

# scikit-learn makes the weights when it first sees samples. Let it see a few clean ones, and keep
# what it made: weights that were copied in the middle of training would hold some of the poison.
x, y = images(auxiliary)
model = MLPClassifier(hidden_layer_sizes=(48,), random_state=0)
model.partial_fit(x[::20], y[::20], classes=range(10))
initial = {"coefs_": [coefs.copy() for coefs in model.coefs_]}
for _ in range(30):
    model.partial_fit(train_x, train_y)

result = flain.purify(model, initial=initial, data=(x[::2], y[::2]))


def share(estimator: MLPClassifier, x: np.ndarray, y: np.ndarray) -> float:
    """The share of the samples that get the label that they carry."""
    return float((estimator.predict(x) == y).mean())


print(result.layers[0])
# Measured on samples that the search has not seen. The triggered ones carry the attacker's target.
held_out, triggered = (x[1::2], y[1::2]), images(triggered)
print(f"ACC {share(model, *held_out):.1%} -> {share(result.model, *held_out):.1%}")
print(f"ASR {share(model, *triggered):.1%} -> {share(result.model, *triggered):.1%}")
