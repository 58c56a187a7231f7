"""Networks described without a framework, and what they compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from typing import TypeAlias

import numpy as np

from flain_core.network import Array


@dataclass(frozen=True, eq=False)
class Dense:
    """``x @ weight.T + bias``, ``(n, in)`` to ``(n, out)``.

    Attributes:
        name: Unique in a network. The same name twice is the same layer, used twice.
        weight: ``(out, in)`` float32.
        bias: ``(out,)`` float32; None for a layer without one.
    """

    name: str
    weight: Array = field(repr=False)
    bias: Array | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of images, ``(n, in, H, W)`` to ``(n, out, H', W')``; kernels never turned.

    An ordinary one gives ``out[p] = Σ_k weight[k] · x[stride · p + k - padding]``, a transposed one
    ``out[stride · p + k] += weight[k] · x[p]``, so that its H' is ``stride · (H - 1) + kh``.

    Attributes:
        name: Unique in a network.
        weight: ``(out, in / groups, kh, kw)`` float32, also if transposed.
        bias: ``(out,)`` float32; None for a layer without one.
        stride: (height, width), in pixels.
        padding: Zeros added on both sides, (height, width), in pixels; either none, or what keeps
            the size of the images.
        groups: Into how many groups the channels are split; as many as ``in`` is depthwise.
        transposed: Whether it is a transposed convolution; then unpadded and of one group.
    """

    name: str
    weight: Array = field(repr=False)
    bias: Array | None = field(repr=False)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class ReLU:
    """``max(x, 0)``."""


@dataclass(frozen=True)
class Mean:
    """The mean over the pixels of each channel, ``(n, C, H, W)`` to ``(n, C)``."""


@dataclass(frozen=True, eq=False)
class Residual:
    """``branch(x) + x``; ``branch`` has what is done to x, in order."""

    branch: tuple[Part, ...]


Part: TypeAlias = Dense | Conv | ReLU | Mean | Residual


@dataclass(frozen=True, eq=False)
class Reference:
    """A network.

    Attributes:
        parts: What is done to a batch, in order.
        sample: Shape of one sample: ``(features,)``, or ``(C, H, W)``.
    """

    parts: tuple[Part, ...]
    sample: tuple[int, ...]

    def layers(self) -> dict[str, Dense | Conv]:
        """The layers by name, in the order in which they are first used."""
        return {layer.name: layer for layer in _layers(self.parts)}

    def run(self, x: Array) -> tuple[Array, dict[str, list[Array]]]:
        """Compute in float64 what the network does.

        Args:
            x: ``(n, *sample)``.

        Returns:
            The scores ``(n, classes)``, and what enters each layer, ``(n, in, *positions)`` for
            each time it is used.

        >>> weight, bias = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]]), np.array([0.0, -1.0])
        >>> network = Reference((Dense("fc1", weight, bias),), sample=(3,))
        >>> network.run(np.array([[3.0, 1.0, 0.0]]))[0]
        array([[2., 1.]])
        """
        entering: dict[str, list[Array]] = {name: [] for name in self.layers()}
        return _run(self.parts, x.astype(np.float64), entering), entering

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> Reference:
        """The network with the weights, and the biases, of some layers replaced."""
        return Reference(_replaced(self.parts, weights, biases or {}), self.sample)


def _layers(parts: Sequence[Part]) -> Iterator[Dense | Conv]:
    for part in parts:
        if isinstance(part, Residual):
            yield from _layers(part.branch)
        elif isinstance(part, (Dense, Conv)):
            yield part


def _replaced(
    parts: Sequence[Part], weights: Mapping[str, Array], biases: Mapping[str, Array]
) -> tuple[Part, ...]:
    return tuple(
        Residual(_replaced(part.branch, weights, biases))
        if isinstance(part, Residual)
        else with_fields(
            part,
            weight=weights.get(part.name, part.weight),
            bias=biases.get(part.name, part.bias),
        )
        if isinstance(part, (Dense, Conv))
        else part
        for part in parts
    )


def _run(parts: Sequence[Part], x: Array, entering: dict[str, list[Array]]) -> Array:
    for part in parts:
        match part:
            case Dense():
                entering[part.name].append(x)
                x = x @ part.weight.T
                x = x if part.bias is None else x + part.bias
            case Conv():
                entering[part.name].append(x)
                x = _transposed(x, part) if part.transposed else _convolved(x, part)
                x = x if part.bias is None else x + part.bias[:, None, None]
            case ReLU():
                x = np.maximum(x, 0)
            case Mean():
                x = x.mean(axis=(2, 3))
            case Residual():
                x = x + _run(part.branch, x, entering)
    return x


def _convolved(x: Array, conv: Conv) -> Array:
    vertical, horizontal = conv.padding
    x = np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))
    out, per_group, *kernel = conv.weight.shape
    height, width = (
        (size - reach) // step + 1
        for size, reach, step in zip(x.shape[2:], kernel, conv.stride, strict=True)
    )
    weight = conv.weight.reshape(conv.groups, -1, per_group, *kernel).astype(np.float64)
    result = np.zeros((len(x), conv.groups, out // conv.groups, height, width))
    for row, column in np.ndindex(*kernel):
        seen = x[:, :, row :: conv.stride[0], column :: conv.stride[1]][:, :, :height, :width]
        by_group = seen.reshape(len(x), conv.groups, per_group, height, width)
        result += np.einsum("goi,ngihw->ngohw", weight[..., row, column], by_group)
    return result.reshape(len(x), out, height, width)


def _transposed(x: Array, conv: Conv) -> Array:
    out, _, *kernel = conv.weight.shape
    reach = [
        step * (size - 1) + length
        for size, length, step in zip(x.shape[2:], kernel, conv.stride, strict=True)
    ]
    result = np.zeros((len(x), out, *reach))
    weight = conv.weight.astype(np.float64)
    for row, column in np.ndindex(*kernel):
        rows = slice(row, row + conv.stride[0] * (x.shape[2] - 1) + 1, conv.stride[0])
        columns = slice(column, column + conv.stride[1] * (x.shape[3] - 1) + 1, conv.stride[1])
        result[:, :, rows, columns] += np.einsum("oi,nihw->nohw", weight[..., row, column], x)
    return result
