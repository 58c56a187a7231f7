"""The kinds of layers that can be purified, subclasses included."""

from __future__ import annotations

from typing import TypeAlias

from torch import nn

__all__ = ["Convolution", "TransposedConvolution", "WeightLayer"]

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
WeightLayer: TypeAlias = nn.Linear | Convolution | TransposedConvolution
