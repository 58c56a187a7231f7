"""Fine-tuning: training goes on with the auxiliary samples, in all layers."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from .shared import Array, Samples, copy_of, strongest
from .training import train

RATES = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Learning rates. A larger one removes more (Sha et al., "Fine-Tuning Is All You Need to Mitigate
Backdoor Attacks", 2022)."""


def fine_tuning(
    model: nn.Module,
    initial: nn.Module,
    x: Array,
    y: Array,
    *,
    seed: int,
) -> nn.Module:
    """Fine-tune with the largest rate that keeps the accuracy on samples held back."""
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        rate = strongest(RATES, lambda rate, part: train(deepcopy(copy), part, rate), copy, samples)
        return train(copy, samples, rate)
