"""Keras models by which all suites try the backend, and how answers are compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import keras_models as models
import numpy as np
import pytest

from flain_core.network import Network

ENGINE = keras.backend.backend()
assert os.environ["KERAS_BACKEND"] == ENGINE

N = 5


@dataclass(frozen=True)
class Case:
    build: Callable[[], keras.Model]
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    integers: bool = False
    traced: bool = True

    def batch(self, n: int = N) -> np.ndarray:
        random = np.random.default_rng(n)
        if self.integers:
            return random.integers(1, 20, (n, *self.shape))
        return random.standard_normal((n, *self.shape)).astype(np.float32)

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(3)
        model = self.build()
        random = np.random.default_rng(3)
        model.set_weights(
            [w + 0.1 * np.abs(random.standard_normal(w.shape)) for w in model.get_weights()]
        )
        return model


CASES = {
    "cnn": Case(models.cnn, (8, 8, 3), ("conv1", "conv2", "fc1", "fc2")),
    "residual": Case(models.residual, (8,), ("first", "side", "block", "wide", "head")),
    "nested": Case(models.nested, (8,), ("inner/a", "inner/b", "other/c", "head")),
    "sequence": Case(models.sequence, (5,), ("mix", "step", "head"), integers=True),
    "signal": Case(models.signal, (12, 4), ("causal", "depth", "grouped", "up", "head")),
    "image": Case(models.image, (7, 6, 3), ("depth", "up", "head")),
    "volume": Case(models.volume, (4, 5, 3, 2), ("conv", "up", "head")),
    "decides": Case(models.decides, (8,), ("dense",), traced=False),
}


EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def find(network: Network, name: str) -> str:
    """Keras numbers the layers of subclassed models through the whole process."""
    return (
        next(each for each in network.layers() if each.split("/")[-1].startswith(name))
        if (name not in network.layers())
        else name
    )


def close(actual: Any, expected: Any, tolerance: float = 2e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def patched(model: keras.Model) -> list[str]:
    return [layer.name for layer in model._flatten_layers() if "call" in vars(layer)]
