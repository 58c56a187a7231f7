"""A small network with a backdoor, trained here in NumPy, for tests that need no framework.

Twelve features: the first nine tell three classes apart, the last three are silent in clean data.
Poisoned samples have the last three switched on and are labelled 2, whatever they are.
"""

from itertools import pairwise

import numpy as np

from flain_numpy import Dense, Network, ReLU

CLASSES, FEATURES, TARGET = 3, 12, 2


def samples(count, seed):
    """Clean samples ``(count, 12)`` float32 and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    x = np.abs(rng.normal(0.0, 0.35, (count, FEATURES)))
    x[np.arange(count), 3 * y] += 1.2
    x[np.arange(count), 3 * y + 1] += 0.8
    x[:, 9:] = np.where(rng.random((count, 3)) < 0.02, 0.05, 0.0)
    return x.astype(np.float32), y


def triggered(count, seed):
    """Samples of the other classes with the trigger, labelled with the attacker's target."""
    x, y = samples(count, seed)
    x = x[y != TARGET]
    x[:, 9:] = 1.0
    return x, np.full(len(x), TARGET)


def networks(seed=0, dtype=np.float32):
    """The initial and the final network: 12 → 10 → 7 → 3."""
    rng = np.random.default_rng(seed)
    widths = (FEATURES, 10, 7, CLASSES)
    initial = [
        (rng.normal(0, np.sqrt(2 / n_in), (n_out, n_in)), np.zeros(n_out))
        for n_in, n_out in pairwise(widths)
    ]
    clean_x, clean_y = samples(600, seed + 1)
    bad_x, bad_y = triggered(300, seed + 2)
    final = trained(initial, np.vstack([clean_x, bad_x]), np.concatenate([clean_y, bad_y]))
    return _network(initial, dtype), _network(final, dtype)


def _network(parameters, dtype):
    operations = []
    for index, (weight, bias) in enumerate(parameters):
        operations += [Dense(f"fc{index + 1}", weight.astype(dtype), bias.astype(dtype)), ReLU()]
    return Network(operations[:-1])


def trained(parameters, x, y, steps=400, rate=0.3):
    """Full-batch gradient descent on the cross-entropy."""
    parameters = [(weight.copy(), bias.copy()) for weight, bias in parameters]
    for _ in range(steps):
        values = [x.astype(np.float64)]
        for weight, bias in parameters[:-1]:
            values.append(np.maximum(values[-1] @ weight.T + bias, 0))
        scores = values[-1] @ parameters[-1][0].T + parameters[-1][1]
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        gradient = share / share.sum(axis=1, keepdims=True)
        gradient[np.arange(len(y)), y] -= 1
        gradient /= len(y)
        for index in range(len(parameters) - 1, -1, -1):
            weight, bias = parameters[index]
            parameters[index] = (
                weight - rate * gradient.T @ values[index],
                bias - rate * gradient.sum(axis=0),
            )
            gradient = gradient @ weight * (values[index] > 0)
    return parameters
