"""NumPy networks of images and of sequences, and random numbers to run them on."""

from __future__ import annotations

import numpy as np

import flain_numpy as fn
from flain_core.network import Array


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def close(one: Array, other: Array, tolerance: float = 2e-5) -> bool:
    scale = max(1.0, float(np.abs(other).max()))
    return one.shape == other.shape and bool(np.abs(one - other).max() <= tolerance * scale)


def norm(channels: int) -> fn.BatchNorm:
    return fn.BatchNorm(
        numbers(channels), numbers(channels, seed=1) ** 2 + 0.5, numbers(channels, seed=2)
    )


def image_network() -> fn.Network:
    block = fn.Residual(
        [
            fn.Conv2d("branch", numbers(8, 6, 3, 3), numbers(8), padding=1, stride=2),
            norm(8),
            fn.ReLU(),
            fn.Residual([fn.Conv2d("inner", numbers(8, 2, 3, 1), groups=4, padding=(1, 0))]),
        ],
        shortcut=[fn.Conv2d("shortcut", numbers(8, 6, 1, 1), stride=2)],
    )
    return fn.Network(
        [
            fn.Conv2d("first", numbers(6, 3, 3, 3) / 5, numbers(6), padding="same"),
            fn.ReLU(),
            fn.Conv2d("depthwise", numbers(12, 1, 3, 3), numbers(12), padding=1, groups=6),
            fn.GELU(),
            fn.Conv2d("pointwise", numbers(6, 12, 1, 1) / 3),
            block,
            fn.ReLU(),
            fn.MaxPool2d(2),
            fn.Flatten(),
            fn.Dense("fc1", numbers(7, 32) / 10, numbers(7)),
            fn.Tanh(),
            fn.Dense("fc2", numbers(4, 7), numbers(4)),
        ]
    )


def sequence_network() -> fn.Network:
    return fn.Network(
        [
            fn.Dense("embed", numbers(9, 5), numbers(9)),
            fn.GELU(approximate=True),
            fn.Residual(
                [fn.Dense("up", numbers(11, 9)), fn.ReLU(), fn.Dense("down", numbers(9, 11))]
            ),
            fn.Flatten(),
            fn.Dense("head", numbers(3, 54), numbers(3)),
        ]
    )


NETWORKS = {
    "image": (image_network(), (3, 8, 8)),
    "sequence": (sequence_network(), (6, 5)),
}


def opened(name: str, samples: int = 5) -> tuple[fn.Network, Array]:
    network, shape = NETWORKS[name]
    return network, numbers(samples, *shape, seed=9)
