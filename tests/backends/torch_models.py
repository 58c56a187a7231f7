"""PyTorch models with the habits that make a cut hard, and never a square layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(24, 14),
        nn.Dropout(),
        nn.ReLU(),
        nn.Linear(14, 5),
    )


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += identity
        return self.relu(out)


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        ResidualBlock(6, 4),
        ResidualBlock(6, 7),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


class Transformer(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(20, 12)
        block = nn.TransformerEncoderLayer(12, 2, 18, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=batch_first)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        if self.batch_first:
            return self.head(self.encoder(x).mean(1))
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 6)
        self.lstm = nn.LSTM(6, 7, batch_first=True)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(torch.tanh(self.project(x)))
        return self.head(states[:, -1])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(6, 8, 3, padding="same", padding_mode="reflect")
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, groups=2)
        self.head = nn.Conv2d(7, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        deep = functional.relu(self.middle(functional.relu(self.down(x))))
        wide = self.up(deep, output_size=x.shape[2:])
        return self.head(torch.cat([x, wide], dim=1)).amax((2, 3))


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(6, 8, 3, groups=2, dilation=2, padding=2, padding_mode="circular"),
        nn.Hardswish(inplace=True),
        nn.Conv2d(8, 16, 3, groups=8, stride=2),
        nn.Flatten(),
        nn.Linear(144, 5),
    )


def upsampling() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding="same"),
        nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1, output_padding=1, groups=2),
        nn.GELU(),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 4, 2),
        nn.ReLU(),
        nn.ConvTranspose3d(4, 3, 2, dilation=2),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 4)
        self.back = nn.Linear(4, 6)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(torch.relu(self.back(torch.relu(self.shared(x))))))


class Decides(nn.Module):
    """Branches on its own values, so that no recording holds for other values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if hidden.sum() > 0:
            return self.head(hidden)
        return 3 * self.head(torch.relu(hidden))


class Overwrites(nn.Module):
    """Overwrites its own input, what enters a layer and what leaves it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv(x.sub_(1))
        x.mul_(2)
        hidden.relu_()
        if hidden.sum() < 0:
            return x[:, 0, :5]
        return self.head(hidden.flatten(1)) + x.sum((1, 2)).unsqueeze(1)


class Escapes(nn.Module):
    """Computes outside torch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.from_numpy(np.tanh(self.first(x).numpy())))


class Selects(nn.Module):
    """Shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        positive = hidden[hidden > 0]
        return self.head(hidden) + len(positive) / 10


class Buffers(nn.Module):
    """Writes into memory that it made before, through views, with ``out=`` and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.side = nn.Linear(6, 9)
        self.head = nn.Linear(18, 5)

    def forward(self, x: Tensor) -> Tensor:
        canvas = torch.ones(len(x), 18)
        left, right = canvas[:, :9], canvas[:, 9:]
        side = self.side(x)
        hidden = self.first(x)
        left += hidden
        mixed = hidden * side
        side.zero_()
        right.copy_(mixed)
        right += side
        scratch = torch.empty(len(x), 18)
        torch.sigmoid(canvas, out=scratch)
        pieces = [piece.clone() for piece in scratch.split(5, dim=1)]
        torch._foreach_mul_(pieces, 2.0)
        return self.head(torch.cat(pieces, dim=1))


class Named(nn.Module):
    """Takes keywords and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.second = nn.Linear(4, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.first(input=left)) + self.second(right)
        return {"hidden": hidden, "logits": self.head(hidden)}


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 5)).to(dtype)
