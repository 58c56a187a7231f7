"""FT-SAM: fine-tuning with sharpness-aware minimisation (Zhu et al., ICCV 2023).

Each step takes the gradient at the worst point near the weights w. Near is measured relative to
them: ‖ε / |w|‖ ≤ ρ, so that large weights move further, and neurons of the backdoor often have
such. To first order that point is w + ε with ε = ρ w² g / ‖ |w| g ‖, element by element.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import product

import torch
from torch import Tensor, nn

from .neurons import BATCH_NORM
from .shared import Array, Samples, copy_of, strongest
from .training import Gradients, loss_gradients, train

RATES = (0.1, 0.03, 0.01)
RADII = (8.0, 2.0, 0.5)
"""Learning rates and ρ: the paper has 0.01, with 2 for CIFAR-10 and 8 for Tiny ImageNet."""


def ft_sam(
    model: nn.Module,
    initial: nn.Module,
    x: Array,
    y: Array,
    *,
    seed: int,
) -> nn.Module:
    """Fine-tune with the largest rate and ρ that keep the accuracy on samples held back."""
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:

        def tuned(setting: tuple[float, float], part: Samples) -> nn.Module:
            rate, radius = setting
            return train(deepcopy(copy), part, rate, gradients=sharpness_aware(radius))

        setting = strongest(tuple(product(RATES, RADII)), tuned, copy, samples)
        return tuned(setting, samples)


def sharpness_aware(radius: float) -> Gradients:
    """Return a function that leaves in each `grad` the gradient at the perturbed weights."""

    def gradients(model: nn.Module, batch: Samples) -> None:
        loss_gradients(model, batch)
        moved = [parameter for parameter in model.parameters() if parameter.grad is not None]
        before = [parameter.detach().clone() for parameter in moved]
        steps = perturbation(before, [_grad(parameter) for parameter in moved], radius)
        with torch.no_grad():
            for parameter, step in zip(moved, steps, strict=True):
                parameter.add_(step)
        model.zero_grad()
        with _statistics_kept(model):
            loss_gradients(model, batch)
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)

    return gradients


def perturbation(weights: list[Tensor], gradients: list[Tensor], radius: float) -> list[Tensor]:
    """Return ε of the same shapes: ρ w² g / ‖ |w| g ‖, with the norm over all of them."""
    squares = [(w * g).square().sum() for w, g in zip(weights, gradients, strict=True)]
    scale = radius / (torch.stack(squares).sum().sqrt() + 1e-12)
    return [scale * w.square() * g for w, g in zip(weights, gradients, strict=True)]


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None  # noqa: S101
    return parameter.grad


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics from following the perturbed weights."""
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORM)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
