"""PyTorch modules take samples in several forms, and scores are found in what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch_models as models
from torch import Tensor, nn
from torch_cases import N
from torch_threads import one_thread  # noqa: F401

from flain_core.errors import DataError, ModelError
from flain_torch import open_network


def test_tuples_and_dicts_are_arguments() -> None:
    torch.manual_seed(0)
    network = open_network(models.Named())
    left = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    right = torch.ones(N, 4)
    scores = network.predict((left, right))
    assert scores.shape == (N, 5)
    assert np.array_equal(network.predict({"right": right, "left": left}), scores)
    cut = network.cut("first", {"right": right, "left": left})
    assert np.array_equal(cut.inputs, left)
    assert np.array_equal(cut.tail(cut.output), scores)


class Returns(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.fc(x))


@dataclass
class ModelOutput:
    logits: Tensor


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, 1),
        lambda y: [y],
        lambda y: {"out": y},
        lambda y: {"a": 1, "logits": y},
        ModelOutput,
    ],
)
def test_scores_are_found(wrap: Callable[[Tensor], Any]) -> None:
    network = open_network(Returns(wrap))
    x = np.ones((N, 3), dtype=np.float32)
    cut = network.cut("fc", x)
    assert np.array_equal(cut.tail(cut.output), network.predict(x))
    assert np.array_equal(network.predict(x), cut.output)
    assert not np.shares_memory(cut.tail(cut.output), cut.output.numpy())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda y: {"a": y, "b": y}, r"entries \['a', 'b'\]"),
        (lambda y: (1, y), "tuple that starts with an int"),
        (lambda y: y.argmax(1), "tensor of int64"),
        (lambda y: y.sum(), "7 samples"),
        (lambda y: y[:3], "7 samples"),
        (lambda y: None, "NoneType"),
    ],
)
def test_results_without_scores_are_refused(wrap: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_network(Returns(wrap)).predict(np.ones((N, 3), dtype=np.float32))


def test_unscaled_pixels_are_explained() -> None:
    with pytest.raises(ModelError, match="if they are pixels, scale them"):
        open_network(models.mlp()).predict(np.ones((N, 6), dtype=np.uint8))


@pytest.mark.parametrize("x", [np.array(["a"]), np.float32(3), {}, np.array([1j])])
def test_data_that_is_no_batch_is_refused(x: Any) -> None:
    with pytest.raises(DataError, match="expected a batch to"):
        open_network(models.mlp()).predict(x)
