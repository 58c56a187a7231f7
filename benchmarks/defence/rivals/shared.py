"""What the rivals share: the auxiliary samples, a copy to work on, and how a setting is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Forward: TypeAlias = Callable[[Tensor], Tensor]
Setting = TypeVar("Setting")

TOLERANCE = 0.01
"""Accuracy that a rival may lose on auxiliary samples, a fraction: one point, for every rival."""

HELD_BACK = 0.2
"""Share of the auxiliary samples on which settings are compared, none of them trained on."""

_LARGEST_PASS = 500


class NotApplicable(ValueError):  # noqa: N818
    """The rival cannot defend a model of this kind; the message says why."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled samples on the model's device: `x` (n, C, H, W), `y` int64 (n,)."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, model: nn.Module, x: Array, y: Array) -> Samples:
        """Put arrays where the model is. Raises ValueError unless there are two samples or more."""
        if len(x) != len(y) or len(x) < 2:
            raise ValueError(
                f"expected two auxiliary samples or more, each with a label; got {len(x)} "
                f"samples and {len(y)} labels"
            )
        like = next(model.parameters())
        images = torch.tensor(x, dtype=like.dtype, device=like.device)
        return cls(images, torch.tensor(y, dtype=torch.int64, device=like.device))

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> Samples:
        """Return copies of the samples at `indices`."""
        return Samples(self.x[indices], self.y[indices])

    def batches(self, size: int) -> Iterator[Samples]:
        """Go through the samples once, in random order, in nearly equal batches.

        Batch norm cannot train on a single sample, so that no batch is a small remainder.
        """
        order = torch.randperm(len(self)).to(self.y.device)
        for part in torch.tensor_split(order, self.steps(size)):
            yield self.take(part)

    def steps(self, size: int) -> int:
        """Return how many batches there are in one pass."""
        return -(-len(self) // size)

    def some_batches(self, size: int, count: int) -> Iterator[Samples]:
        """Go through the samples as often as it takes for so many batches."""
        passes = (self.batches(size) for _ in repeat(None))
        return islice(chain.from_iterable(passes), count)


@contextmanager
def copy_of(model: nn.Module, seed: int) -> Iterator[nn.Module]:
    """Give a trainable copy in evaluation mode; seed torch inside, and restore its state after."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        copy = deepcopy(model).requires_grad_(True).eval()
        copy.zero_grad()
        # Convolutions train up to twice as fast on a CPU; shapes and values stay.
        copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield copy
        copy.zero_grad()
        copy.eval()


def accuracy(forward: Forward, samples: Samples) -> float:
    """Return the share of samples, 0 to 1, whose largest score is the label's."""
    with torch.no_grad():
        hits = [
            forward(x).argmax(1) == y
            for x, y in zip(
                torch.split(samples.x, _LARGEST_PASS),
                torch.split(samples.y, _LARGEST_PASS),
                strict=True,
            )
        ]
    return torch.cat(hits).double().mean().item()


def hold_back(samples: Samples) -> tuple[Samples, Samples]:
    """Split the samples at random into those to train on and those held back, class by class."""
    held = torch.zeros(len(samples), dtype=torch.bool, device=samples.y.device)
    order = torch.randperm(len(samples)).to(held.device)
    for label in torch.unique(samples.y):
        members = order[samples.y[order] == label]
        held[members[: round(HELD_BACK * len(members))]] = True
    if not held.any():
        held[order[0]] = True
    return samples.take((~held).nonzero().flatten()), samples.take(held.nonzero().flatten())


def strongest(
    settings: Sequence[Setting],
    defend: Callable[[Setting, Samples], Forward],
    model: nn.Module,
    samples: Samples,
) -> Setting:
    """Choose the strongest setting that keeps the accuracy on samples held back.

    A rival removes more the harder it works on the model, and auxiliary samples show only what
    that costs. So the first setting is taken that loses at most `TOLERANCE`; if none does, the one
    that loses least.

    Args:
        settings: From the strongest to the weakest.
        defend: A function of a setting and of samples to train on that gives the purified model.
        model: The model to defend, in evaluation mode.
        samples: The auxiliary samples.
    """
    train, held = hold_back(samples)
    least = accuracy(model, held) - TOLERANCE
    kept: list[float] = []
    for setting in settings:
        kept.append(accuracy(defend(setting, train), held))
        if kept[-1] >= least:
            return setting
    return settings[kept.index(max(kept))]
