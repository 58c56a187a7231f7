"""The network of the embedded example, as PyTorch trains it and exports it to ONNX."""

from __future__ import annotations

from enum import Enum

import torch
from mnist_samples import CLASSES, SIDE
from torch import Tensor, nn


class Width(str, Enum):
    """Channels of conv1 and conv2 and outputs of fc1: 16/32/64, or the paper's 32/64/128."""

    SLIM = "slim"
    FULL = "full"


class Network(nn.Module):
    """The MNIST network: two 3x3 convolutions with pooling, then fc1 and fc2.

    Takes float32 (n, 1, 28, 28) in [0, 1], returns logits (n, 10). fc1 has 1,568 inputs
    when slim and 3,136 when full, all of them behind a ReLU.
    """

    def __init__(self, width: Width = Width.SLIM, dropout: float = 0.25) -> None:
        super().__init__()
        first, second, hidden = (16, 32, 64) if width is Width.SLIM else (32, 64, 128)
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.fc1 = nn.Linear(second * (SIDE // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, CLASSES)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        # Twice as fast as the default layout on a CPU; the weights' shapes stay.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) for float32 images (n, 1, 28, 28)."""
        # ReLU and max pooling commute; pooling first leaves a quarter of the work.
        x = torch.relu(self.pool(self.conv1(x)))
        x = torch.relu(self.pool(self.conv2(x)))
        x = torch.relu(self.fc1(self.dropout(x.flatten(1))))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits
