"""Small networks described without a framework, and what they compute; no layer is square.

A backend that transposes where it must not, or fails to where it must, cannot agree with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np

from .network import Array

__all__ = ["CASES", "Case", "Conv", "Dense", "Mean", "Part", "ReLU", "Reference", "Residual"]


@dataclass(frozen=True, eq=False)
class Dense:
    """``x @ weight.T + bias``, ``(n, in)`` to ``(n, out)``.

    Attributes:
        name: Unique in a network. The same name twice is the same layer, used twice.
        weight: ``(out, in)`` float32.
        bias: ``(out,)`` float32.
    """

    name: str
    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of images, ``(n, in, H, W)`` to ``(n, out, H', W')``; kernels never turned.

    An ordinary one gives ``out[p] = Σ_k weight[k] · x[stride · p + k - padding]``, a transposed one
    ``out[stride · p + k] += weight[k] · x[p]``, so that its H' is ``stride · (H - 1) + kh``.

    Attributes:
        name: Unique in a network.
        weight: ``(out, in / groups, kh, kw)`` float32, also if transposed.
        bias: ``(out,)`` float32.
        stride: (height, width), in pixels.
        padding: Zeros added on both sides, (height, width), in pixels; either none, or what keeps
            the size of the images.
        groups: Into how many groups the channels are split; as many as ``in`` is depthwise.
        transposed: Whether it is a transposed convolution; then unpadded and of one group.
    """

    name: str
    weight: Array
    bias: Array
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
    """``branch(x) + x``.

    Attributes:
        branch: What is done to x, in order.
    """

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

    def replace(self, weights: Mapping[str, Array]) -> Reference:
        """The network with the weights of some layers replaced."""
        return Reference(_replaced(self.parts, weights), self.sample)


@dataclass(frozen=True, eq=False)
class Case:
    """A network before and after training, and samples.

    Attributes:
        name: What the case tries.
        initial: Before training.
        final: After training: the same parts with other weights.
        x: ``(n, *sample)`` float32, from 0 up; each feature or channel of its own size.
    """

    name: str
    initial: Reference
    final: Reference
    x: Array

    def __repr__(self) -> str:
        return f"Case({self.name!r}, layers {', '.join(self.final.layers())})"


def _layers(parts: Sequence[Part]) -> Iterator[Dense | Conv]:
    for part in parts:
        if isinstance(part, Residual):
            yield from _layers(part.branch)
        elif isinstance(part, (Dense, Conv)):
            yield part


def _replaced(parts: Sequence[Part], weights: Mapping[str, Array]) -> tuple[Part, ...]:
    return tuple(
        Residual(_replaced(part.branch, weights))
        if isinstance(part, Residual)
        else with_fields(part, weight=weights[part.name])
        if isinstance(part, (Dense, Conv)) and part.name in weights
        else part
        for part in parts
    )


def _run(parts: Sequence[Part], x: Array, entering: dict[str, list[Array]]) -> Array:
    for part in parts:
        match part:
            case Dense():
                entering[part.name].append(x)
                x = x @ part.weight.T + part.bias
            case Conv():
                entering[part.name].append(x)
                x = (_transposed(x, part) if part.transposed else _convolved(x, part)) + part.bias[
                    :, None, None
                ]
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


_Parameters: TypeAlias = Callable[..., tuple[str, Array, Array]]
"""``(name, *shape)`` to the name, a weight of that shape and a bias."""


def _parameters(name: str, *shape: int, trained: bool) -> tuple[str, Array, Array]:
    random = np.random.default_rng([*name.encode(), *shape])
    scale = float(np.prod(shape[1:])) ** -0.5
    initial, update = random.standard_normal((2, *shape)) * scale
    bias = random.uniform(-0.3, 0.3, shape[0])
    weight = initial + update if trained else initial
    return name, weight.astype(np.float32), bias.astype(np.float32)


def _dense(p: _Parameters) -> tuple[Part, ...]:
    return (
        *(Dense(*p("fc1", 11, 7)), ReLU()),
        *(Dense(*p("fc2", 9, 11)), ReLU()),
        Dense(*p("scores", 3, 9)),
    )


def _conv(p: _Parameters) -> tuple[Part, ...]:
    return (
        *(Conv(*p("conv1", 8, 3, 3, 5), padding=(1, 2)), ReLU()),
        *(Conv(*p("conv2", 6, 8, 3, 2), stride=(2, 2)), ReLU(), Mean()),
        Dense(*p("scores", 4, 6)),
    )


def _grouped(p: _Parameters) -> tuple[Part, ...]:
    return (
        *(Conv(*p("conv1", 6, 4, 2, 3)), ReLU()),
        *(Conv(*p("grouped", 9, 2, 3, 2), groups=3), ReLU(), Mean()),
        Dense(*p("scores", 4, 9)),
    )


def _depthwise(p: _Parameters) -> tuple[Part, ...]:
    return (
        *(Conv(*p("conv1", 5, 3, 2, 3)), ReLU()),
        *(Conv(*p("depthwise", 10, 1, 3, 2), groups=5), ReLU(), Mean()),
        Dense(*p("scores", 4, 10)),
    )


def _transposed_conv(p: _Parameters) -> tuple[Part, ...]:
    return (
        *(Conv(*p("conv1", 7, 3, 2, 3)), ReLU()),
        *(Conv(*p("transposed", 5, 7, 3, 2), stride=(2, 2), transposed=True), ReLU(), Mean()),
        Dense(*p("scores", 4, 5)),
    )


def _residual(p: _Parameters) -> tuple[Part, ...]:
    inner = Conv(*p("inner", 6, 4, 3, 5), padding=(1, 2))
    outer = Conv(*p("outer", 4, 6, 5, 3), padding=(2, 1))
    return (
        *(Conv(*p("conv1", 4, 3, 2, 3)), ReLU()),
        *(Residual((inner, ReLU(), outer)), ReLU(), Mean()),
        Dense(*p("scores", 5, 4)),
    )


def _used_twice(p: _Parameters) -> tuple[Part, ...]:
    shared = Dense(*p("shared", 6, 8))
    return (
        *(Dense(*p("fc1", 8, 5)), ReLU(), shared, ReLU()),
        *(Dense(*p("fc2", 8, 6)), ReLU(), shared, ReLU()),
        Dense(*p("scores", 3, 6)),
    )


def _case(name: str, sample: tuple[int, ...], parts: Callable[[_Parameters], Any]) -> Case:
    initial, final = (
        Reference(parts(partial(_parameters, trained=trained)), sample) for trained in (False, True)
    )
    x = np.random.default_rng(0).random((_SAMPLES, *sample), dtype=np.float32)
    # Neurons of different activation, so that a search has thresholds to go through.
    sizes = np.linspace(0.05, 2, sample[0], dtype=np.float32)
    x *= sizes.reshape(-1, *[1] * (len(sample) - 1))
    return Case(name, initial, _balanced(final, x), x)


def _balanced(network: Reference, x: Array) -> Reference:
    """The network with biases that make no class a favourite, so that accuracy means something."""
    scores, _ = network.run(x)
    last = cast(Dense, network.parts[-1])
    bias = (last.bias - scores.mean(axis=0)).astype(np.float32)
    return Reference((*network.parts[:-1], with_fields(last, bias=bias)), network.sample)


_SAMPLES = 40

CASES = (
    _case("dense", (7,), _dense),
    _case("conv", (3, 7, 6), _conv),
    _case("grouped", (4, 7, 6), _grouped),
    _case("depthwise", (3, 7, 6), _depthwise),
    _case("transposed", (3, 7, 6), _transposed_conv),
    _case("residual", (3, 7, 6), _residual),
    _case("used twice", (5,), _used_twice),
)
"""The cases that every backend is tried on."""
