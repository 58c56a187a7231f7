"""The networks of the parity check as PyTorch modules: trained a little, rebuilt, exported.

``python parity_torch.py FOLDER NETWORK...`` trains them and writes their parameters.
"""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity_questions import Array, Arrays, write_arrays
from torch import nn

import flain_numpy
from flain_cli import example

__all__ = ["export_dynamo", "export_script", "module"]


def perceptron() -> nn.Module:
    """Three dense layers."""
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(784, 40),
            relu1=nn.ReLU(),
            fc2=nn.Linear(40, 24),
            relu2=nn.ReLU(),
            fc3=nn.Linear(24, 10),
        )
    )


def example_network() -> nn.Module:
    """The network of the embedded example."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(1568, 64),
            relu3=nn.ReLU(),
            fc2=nn.Linear(64, 10),
        )
    )


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalization, beside a shortcut."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.projects = into != out
        if self.projects:
            self.conv3 = nn.Conv2d(into, out, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, into, H, W)`` to ``(n, out, H', W')``, with ``H' = ceil(H / stride)``."""
        shortcut = self.bn3(self.conv3(x)) if self.projects else x
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """A residual network for images ``(n, 1, 28, 28)``.

    The strided convolutions see images of odd size. So PyTorch's padding of both sides is the same
    as the padding that Keras calls "same".
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.block1 = ResidualBlock(12, 12, stride=1)
        self.block2 = ResidualBlock(12, 32, stride=2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to scores."""
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.block2(self.block1(x))
        scores: torch.Tensor = self.fc(x.mean((2, 3)))
        return scores


class EncoderBlock(nn.Module):
    """Attention and a perceptron, each followed by a residual and a layer normalization."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, tokens, width)`` to the same shape."""
        x = self.norm1(x + self.attention(x, x, x, need_weights=False)[0])
        # tf2onnx cannot export the error function of the exact GELU.
        hidden = nn.functional.gelu(self.linear1(x), approximate="tanh")
        normed: torch.Tensor = self.norm2(x + self.linear2(hidden))
        return normed


class Transformer(nn.Module):
    """A transformer encoder; each row of an image is a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(28, 24)
        self.block1 = EncoderBlock(24, heads=3, hidden=40)
        self.block2 = EncoderBlock(24, heads=3, hidden=40)
        self.head = nn.Linear(28 * 24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, 28, 28)`` to scores."""
        x = self.block2(self.block1(self.embed(x)))
        scores: torch.Tensor = self.head(x.flatten(1))
        return scores


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "example": example_network,
    "resnet": ResNet,
    "transformer": Transformer,
    "perceptron": perceptron,
}
_SAMPLE = {"transformer": (28, 28), "perceptron": (784,)}


def module(network: str, arrays: Arrays) -> nn.Module:
    """A network with given parameters."""
    made = NETWORKS[network]()
    made.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return made.eval()


def write_networks(folder: Path, networks: Collection[str]) -> None:
    """Write the initial and the final parameters of each network, and its auxiliary samples.

    The embedded example is taken as it is. The others are trained on its held-out clean samples,
    in double precision, so that they come out alike on processors that round differently; the
    residual network starts from a trained one, so that the statistics of its batch normalizations
    mean something before and after.
    """
    initial, final, auxiliary, clean, _ = example.files().paths
    for name in networks:
        if name == "example":
            weights = _stored(initial), _stored(final)
        else:
            weights = _trained(name, *_samples(clean, name))
        x, y = _samples(auxiliary, name)
        np.savez(folder / f"{name}-samples.npz", x=x, y=y)
        for which, arrays in zip(("initial", "final"), weights, strict=True):
            write_arrays(folder / f"{name}-{which}.npz", arrays)


def _samples(path: Path, network: str) -> tuple[Array, Array]:
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    return x.reshape(len(x), *_SAMPLE.get(network, x.shape[1:])), y


def _stored(path: Path) -> Arrays:
    return {
        f"{operation.name}.{part}": getattr(operation, part)
        for operation in flain_numpy.load(path).operations
        if isinstance(operation, (flain_numpy.Conv2d, flain_numpy.Dense))
        for part in ("weight", "bias")
    }


def _trained(name: str, x: Array, y: Array) -> tuple[Arrays, Arrays]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    network = NETWORKS[name]()
    _train(network, x, y, epochs=6 if name == "resnet" else 0)
    before = _parameters(network)
    _train(network, x, y, epochs=6)
    return before, _parameters(network)


def _train(network: nn.Module, x: Array, y: Array, epochs: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(x)), 50):
            loss = nn.functional.cross_entropy(
                network(torch.from_numpy(x[chosen]).double()), torch.from_numpy(y[chosen])
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _parameters(network: nn.Module) -> Arrays:
    state = deepcopy(network).float().state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def export_dynamo(network: str, arrays: Arrays, x: Array, out: Path) -> None:
    """Export with ``torch.onnx.export(dynamo=True)``, batch normalization unfolded."""
    batch = ({0: torch.export.Dim("n")},)
    _export(
        *(network, arrays, x, out),
        dynamo=True,
        dynamic_shapes=batch,
        optimize=not _normalizes(arrays),
        verbose=False,
    )


def export_script(network: str, arrays: Arrays, x: Array, out: Path) -> None:
    """Export with the TorchScript exporter, batch normalization unfolded."""
    unfolded: dict[str, Any] = {
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    }
    _export(
        *(network, arrays, x, out),
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
        **(unfolded if _normalizes(arrays) else {}),
    )


def _export(network: str, arrays: Arrays, x: Array, out: Path, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module(network, arrays), (torch.from_numpy(x),), out, **options)


def _normalizes(arrays: Arrays) -> bool:
    return any(name.endswith("running_mean") for name in arrays)


if __name__ == "__main__":
    write_networks(Path(sys.argv[1]), sys.argv[2:])
