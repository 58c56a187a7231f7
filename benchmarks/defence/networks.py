"""The networks of the matrix. All take scaled images float32 and return logits ``(n, 10)``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import CLASSES

_HALF = 0.5
_FURTHEST = 3


def built(name: str, seed: int) -> nn.Module:
    """A fresh network; the same seed gives the same weights.

    Raises:
        KeyError: No such network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # A third faster than the default layout on a CPU; the weights' shapes stay.
        return NETWORKS[name]().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def mnist() -> nn.Module:
    """FLAIN's published MNIST network with half its channels; fc1 has 1,568 input neurons."""
    return _sequence(
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        pool1=nn.MaxPool2d(2),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, 3, padding=1),
        pool2=nn.MaxPool2d(2),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        dropout1=nn.Dropout(0.5),
        fc1=nn.Linear(1568, 64),
        relu3=nn.ReLU(),
        dropout2=nn.Dropout(0.25),
        fc2=nn.Linear(64, CLASSES),
    )


def dense() -> nn.Module:
    """A perceptron on raw pixels of 28 × 28; fc1 has 784 input neurons."""
    return _perceptron(784, 128, 64)


def cifar() -> nn.Module:
    """Three convolutions without batch norm; fc1 has 2,048 input neurons."""
    parts: list[tuple[str, nn.Module]] = []
    for index, (wide, wider) in enumerate(pairwise((3, 32, 64, 128)), start=1):
        parts += [
            (f"conv{index}", nn.Conv2d(wide, wider, 3, padding=1)),
            # ReLU and max pooling commute; pooling first leaves a quarter of the work.
            (f"pool{index}", nn.MaxPool2d(2)),
            (f"relu{index}", nn.ReLU()),
        ]
    parts += [("flatten", nn.Flatten()), ("dropout", nn.Dropout(0.4))]
    parts += [("fc1", nn.Linear(2048, 256)), ("relu4", nn.ReLU()), ("fc2", nn.Linear(256, CLASSES))]
    return nn.Sequential(OrderedDict(parts))


def digits() -> nn.Module:
    """A perceptron for images of 8 × 8; fc2 has 64 input neurons behind a ReLU."""
    return _perceptron(64, 64, 32)


class Varied(nn.Module):
    """While training, mirrors half of the images and moves each by up to three pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(n, channels, side, side)``, grey where nothing was moved to."""
        if not self.training:
            return x
        count, side, device = len(x), x.shape[-1], x.device
        x = torch.where(torch.rand(count, 1, 1, 1, device=device) < _HALF, x, x.flip(3))
        moves = torch.randint(0, 2 * _FURTHEST + 1, (2, count, 1), device=device)
        down, right = moves + torch.arange(side, device=device)
        padded = functional.pad(x, (_FURTHEST,) * 4).permute(0, 2, 3, 1)
        every = torch.arange(count, device=device)[:, None, None]
        return padded[every, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def published() -> nn.Module:
    """FLAIN's published CIFAR-10 network: six convolutions with batch norm, three dense layers.

    Its images are varied in training, as few of them are at hand.
    """
    parts: list[tuple[str, nn.Module]] = [("varied", Varied())]
    widths = (3, 64, 128, 256, 256, 256, 256)
    for index, (wide, wider) in enumerate(pairwise(widths), start=1):
        parts += [
            (f"conv{index}", nn.Conv2d(wide, wider, 3, padding=1)),
            (f"norm{index}", nn.BatchNorm2d(wider)),
            (f"relu{index}", nn.ReLU()),
        ]
        if index % 2 == 0:
            parts.append((f"pool{index}", nn.MaxPool2d(2)))
    parts.append(("flatten", nn.Flatten()))
    for index, (wide, wider) in enumerate(pairwise((4096, 1024, 512)), start=1):
        parts += [(f"fc{index}", nn.Linear(wide, wider)), (f"relu{index + 6}", nn.ReLU())]
    parts.append(("fc3", nn.Linear(512, CLASSES)))
    return nn.Sequential(OrderedDict(parts))


class Block(nn.Module):
    """Two convolutions with batch norm beside a shortcut (He et al. 2016)."""

    def __init__(self, wide: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide, wider, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wider)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or wide != wider:
            self.shortcut = nn.Sequential(
                nn.Conv2d(wide, wider, 1, stride, bias=False), nn.BatchNorm2d(wider)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps ``(n, wider, side / stride, side / stride)``."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        out: Tensor = self.relu2(inner + self.shortcut(x))
        return out


def resnet() -> nn.Module:
    """A ResNet of three blocks with batch norm, 16 to 64 channels, one dense layer."""
    return _sequence(
        conv=nn.Conv2d(3, 16, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(16),
        relu=nn.ReLU(),
        block1=Block(16, 16, 1),
        block2=Block(16, 32, 2),
        block3=Block(32, 64, 2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(64, CLASSES),
    )


class Encoder(nn.Module):
    """A transformer block that normalises first (Xiong et al. 2020): attention, then two layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(n, tokens, width)`` for tokens of that shape."""
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        out: Tensor = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return out


class Vit(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021): 16 patches of 7 × 7, width 64, two blocks."""

    def __init__(self, width: int = 64, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, 7)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, 10)`` for images ``(n, 1, 28, 28)``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1) + self.places
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


def _perceptron(pixels: int, wide: int, narrow: int) -> nn.Module:
    return _sequence(
        flatten=nn.Flatten(),
        fc1=nn.Linear(pixels, wide),
        relu1=nn.ReLU(),
        fc2=nn.Linear(wide, narrow),
        relu2=nn.ReLU(),
        fc3=nn.Linear(narrow, CLASSES),
    )


def _sequence(**parts: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(parts))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mnist": mnist,
    "dense": dense,
    "cifar": cifar,
    "digits": digits,
    "resnet": resnet,
    "vit": Vit,
    "published": published,
}
