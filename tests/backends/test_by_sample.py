"""In which networks single samples are followed, and in which whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_models
import pytest
import torch
import torch_models
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory.by_sample import BySample
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.opening import registry


class Skips(nn.Module):
    """Reads the samples again behind the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(22, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([torch.relu(self.fc(x)), x], dim=1))


class Centres(nn.Module):
    """Compares each sample with the others of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.fc(x))
        return self.head(hidden - hidden.mean(dim=0))


class Reshapes(nn.Module):
    """Names the size of the batch, which a recording keeps as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc(x)).view(x.shape[0], 4, 4).mean(dim=2))


class Recurs(nn.Module):
    """Its kernel reads a state with a row for each sample of the batch it was recorded with."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(7, 5)
        self.lstm = nn.LSTM(16, 7, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(torch.relu(self.fc(x)).unsqueeze(1))
        return self.head(states[:, -1])


class Compares(nn.Module):
    """Goes another way where any sample of the batch is far out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc(x)
        return self.head(torch.where(hidden.abs().max() > 3, torch.relu(hidden), hidden))


class Picks(nn.Module):
    """Works on as many rows as the batch has."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc(x)
        hidden[: len(x)].relu_()
        return self.head(hidden)


class Turned(nn.Module):
    """Its layer's output lies in memory neuron by neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = Backwards(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu_(self.fc(x)))


class Backwards(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x.T + self.bias[:, None]).T


def in_place() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))


def normalized() -> nn.Module:
    norms = (nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.LayerNorm(16))
    return nn.Sequential(nn.Linear(6, 16), *norms, nn.Linear(16, 5), nn.LogSoftmax(dim=1))


def sequence() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))


def perceptron() -> MLPClassifier:
    x = np.random.default_rng(0).random((40, 6))
    return MLPClassifier((16,), max_iter=5).partial_fit(x, np.arange(40) % 5, classes=np.arange(5))


FOLLOWED: dict[str, Callable[[], Any]] = {
    "torch perceptron": torch_models.mlp,
    "torch in place": in_place,
    "torch turned": Turned,
    "torch normalized": normalized,
    "onnx perceptron": onnx_models.mlp,
    "onnx fixed batch": lambda: onnx_models.mlp(batch=4),
    "scikit-learn": perceptron,
}
UNKNOWN: dict[str, Callable[[], Any]] = {
    "torch skip": Skips,
    "torch recurrent": Recurs,
    "torch above a value": Compares,
    "torch rows of the batch": Picks,
    "onnx largest of the batch": onnx_models.mixing_batch,
    "torch mean of the batch": Centres,
    "torch named size": Reshapes,
    "torch sequence": sequence,
    "onnx rows of the batch": onnx_models.needed_batch,
    "onnx skip": onnx_models.residual,
    "onnx turned": onnx_models.gemm_turned,
    "onnx sequence": onnx_models.matmul_add,
}
OTHERWISE: dict[str, Callable[[], Any]] = {
    "torch half precision": lambda: torch_models.mlp(torch.float16),
    "onnx scaled product": onnx_models.gemm_scaled,
}


def ways(build: Callable[[], Any]) -> tuple[bool, bool]:
    """Whether a cut has a tail by sample, and whether single samples are followed.

    Every candidate scores what it scores in full.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = registry.open_network(build())
    shape = {sequence: (3,), onnx_models.matmul_add: (4,)}.get(build, ())
    layer = next(each for each in network.layers().values() if each.kind == "dense")
    x = random.random((40, *shape, 6), dtype=np.float32)
    x[random.random(x.shape) < 0.5] = 0
    x = x.astype(np.float16 if layer.epsilon > 1e-4 else np.float32)
    y = np.concatenate([network.predict(batch) for batch in np.split(x, 10)]).argmax(axis=1)
    samples = LocalSamples.of((x, y), batch_size=4)
    scorer = LocalScorer(samples)
    scorer.study(network, layer.name)
    initial = random.permuted(layer.weight, axis=1)
    flipping = FlippingOrder(network, layer, initial, 2.0, random.permutation(layer.neurons))
    stepper = scorer.stepper(flipping, window=5e-3 if layer.epsilon > 1e-4 else 2e-5)
    for n in range(layer.neurons + 1):
        clean = stepper.advance([n])[0].clean
        full = scorer.score_of(flipping.candidate(n), probes=False).clean
        assert abs(clean.total - full.total) <= clean.uncertain
    tail = network.cut(layer.name, x[:4]).tail_by_sample
    return tail is not None, isinstance(stepper, BySample)


@pytest.mark.parametrize("build", FOLLOWED.values(), ids=FOLLOWED)
def test_samples_are_followed_where_each_goes_its_own_way(build: Callable[[], Any]) -> None:
    assert ways(build) == (True, True)


@pytest.mark.parametrize("build", UNKNOWN.values(), ids=UNKNOWN)
def test_a_tail_that_may_mix_samples_is_not_offered(build: Callable[[], Any], capfd: Any) -> None:
    assert ways(build) == (False, False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("build", OTHERWISE.values(), ids=OTHERWISE)
def test_a_tail_that_is_offered_may_be_refused(build: Callable[[], Any]) -> None:
    assert ways(build) == (True, False)
