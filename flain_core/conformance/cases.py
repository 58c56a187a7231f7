"""The networks that every backend is tried on. No layer is square.

So a backend that transposes where it must not, or fails to where it must, cannot agree with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from flain_core.network import Array

from .networks import Conv, Dense, Mean, Reference, ReLU, Residual

_SAMPLES = 40


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


def _parameters(name: str, *shape: int, trained: bool) -> tuple[str, Array, Array]:
    random = np.random.default_rng([*name.encode(), *shape])
    scale = float(np.prod(shape[1:])) ** -0.5
    initial, update = random.standard_normal((2, *shape)) * scale
    bias = random.uniform(-0.3, 0.3, shape[0])
    weight = initial + update if trained else initial
    return name, weight.astype(np.float32), bias.astype(np.float32)


def _networks(*, trained: bool) -> dict[str, Reference]:
    """The networks, by what they try."""
    p = partial(_parameters, trained=trained)
    shared = Dense(*p("shared", 6, 8))
    inner = Conv(*p("inner", 6, 4, 3, 5), padding=(1, 2))
    outer = Conv(*p("outer", 4, 6, 5, 3), padding=(2, 1))
    dense = (
        *(Dense(*p("fc1", 11, 7)), ReLU()),
        *(Dense(*p("fc2", 9, 11)), ReLU()),
        Dense(*p("scores", 3, 9)),
    )
    conv = (
        *(Conv(*p("conv1", 8, 3, 3, 5), padding=(1, 2)), ReLU()),
        *(Conv(*p("conv2", 6, 8, 3, 2), stride=(2, 2)), ReLU(), Mean()),
        Dense(*p("scores", 4, 6)),
    )
    grouped = (
        *(Conv(*p("conv1", 6, 4, 2, 3)), ReLU()),
        *(Conv(*p("grouped", 9, 2, 3, 2), groups=3), ReLU(), Mean()),
        Dense(*p("scores", 4, 9)),
    )
    depthwise = (
        *(Conv(*p("conv1", 5, 3, 2, 3)), ReLU()),
        *(Conv(*p("depthwise", 10, 1, 3, 2), groups=5), ReLU(), Mean()),
        Dense(*p("scores", 4, 10)),
    )
    transposed = (
        *(Conv(*p("conv1", 7, 3, 2, 3)), ReLU()),
        *(Conv(*p("transposed", 5, 7, 3, 2), stride=(2, 2), transposed=True), ReLU(), Mean()),
        Dense(*p("scores", 4, 5)),
    )
    residual = (
        *(Conv(*p("conv1", 4, 3, 2, 3)), ReLU()),
        *(Residual((inner, ReLU(), outer)), ReLU(), Mean()),
        Dense(*p("scores", 5, 4)),
    )
    used_twice = (
        *(Dense(*p("fc1", 8, 5)), ReLU(), shared, ReLU()),
        *(Dense(*p("fc2", 8, 6)), ReLU(), shared, ReLU()),
        Dense(*p("scores", 3, 6)),
    )
    without_bias = (
        *(Conv(*p("conv1", 7, 3, 2, 3)[:2], bias=None), ReLU(), Mean()),
        *(Dense(*p("fc1", 6, 7)[:2], bias=None), ReLU()),
        Dense(*p("scores", 4, 6)),
    )
    return {
        "dense": Reference(dense, (7,)),
        "conv": Reference(conv, (3, 7, 6)),
        "grouped": Reference(grouped, (4, 7, 6)),
        "depthwise": Reference(depthwise, (3, 7, 6)),
        "transposed": Reference(transposed, (3, 7, 6)),
        "residual": Reference(residual, (3, 7, 6)),
        "used twice": Reference(used_twice, (5,)),
        "without bias": Reference(without_bias, (3, 7, 6)),
    }


def _case(name: str, initial: Reference, final: Reference) -> Case:
    sample = final.sample
    x = np.random.default_rng(0).random((_SAMPLES, *sample), dtype=np.float32)
    # Neurons of different activation, so that a search has thresholds to go through.
    sizes = np.linspace(0.05, 2, sample[0], dtype=np.float32)
    x *= sizes.reshape(-1, *[1] * (len(sample) - 1))
    return Case(name, initial, _balanced(final, x), x)


def _balanced(network: Reference, x: Array) -> Reference:
    """The network with biases that make no class a favourite, so that accuracy means something."""
    scores, _ = network.run(x)
    name, last = list(network.layers().items())[-1]
    bias = (np.zeros(1) if last.bias is None else last.bias) - scores.mean(axis=0)
    return network.replace({}, {name: bias.astype(np.float32)})


_INITIAL, _FINAL = _networks(trained=False), _networks(trained=True)

CASES = tuple(_case(name, _INITIAL[name], _FINAL[name]) for name in _FINAL)
"""The cases that every backend is tried on."""
