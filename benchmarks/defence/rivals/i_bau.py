"""I-BAU: adversarial unlearning by implicit hypergradient (Zeng et al., ICLR 2022).

min_θ max_{‖δ‖ ≤ C} of the loss on x + δ with one universal δ, the guess at a trigger. The outer
step follows the gradient through δ*(θ), not only at it.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from .hypergradient import hypergradient
from .shared import Array, Samples, copy_of, strongest

ROUNDS = 10
INNER_STEP = 0.2
LEAST_STEPS = 10
ITERATIONS = 5
BATCH = 64
"""Rounds, each with a new δ: twice the published code's, as there are fewer samples. Its five
fixed-point iterations."""

PUBLISHED_RADIUS = 10 / (0.25 * math.sqrt(3 * 32 * 32))
"""The paper's C = 10 for CIFAR-10 images in [0, 1], whose standard deviation is 0.25, as a number
of standard deviations for each input."""

INNER_RATE = 0.1
SHRINKAGE = 1e-3

RADII = (PUBLISHED_RADIUS, PUBLISHED_RADIUS / 2, PUBLISHED_RADIUS / 4)

RATE = 3e-4
"""Rate of Adam for the outer problem. The published 1e-3 is too large for a network without batch
norm: clean samples are unlearned, those trained on too."""


def i_bau(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Unlearn with the largest C that keeps the accuracy on samples held back."""
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        radius = strongest(
            RADII, lambda radius, part: unlearn(deepcopy(copy), part, radius), copy, samples
        )
        return unlearn(copy, samples, radius)


def unlearn(model: nn.Module, samples: Samples, deviations: float) -> nn.Module:
    """Alternate between finding δ and unlearning it, in place; return the model.

    Half of the outer loss is that on clean samples, so that those are not unlearned with it.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    radius = deviations * float(samples.x.std()) * math.sqrt(samples.x[0].numel())
    for _ in range(ROUNDS):
        delta = universal_perturbation(model, samples, radius)
        for batch in samples.batches(BATCH):
            delta = delta.detach().requires_grad_()
            perturbed = nn.functional.cross_entropy(model(batch.x + delta), batch.y)
            clean = nn.functional.cross_entropy(model(batch.x), batch.y)
            inner = SHRINKAGE * delta.square().sum() - perturbed
            (slope,) = torch.autograd.grad(inner, delta, create_graph=True)
            gradients = hypergradient(
                (clean + perturbed) / 2, delta - INNER_RATE * slope, delta, parameters, ITERATIONS
            )
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    return model


def universal_perturbation(model: nn.Module, samples: Samples, radius: float) -> Tensor:
    """Return δ (1, C, H, W) with ‖δ‖ ≤ radius that raises the loss on all samples.

    From a small random start, steps of `INNER_STEP` radii up the gradient, one for each batch.
    """
    delta = torch.randn_like(samples.x[:1])
    delta *= 0.1 * radius / delta.norm()
    for batch in samples.some_batches(BATCH, max(LEAST_STEPS, samples.steps(BATCH))):
        delta = delta.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(batch.x + delta), batch.y)
        (slope,) = torch.autograd.grad(loss, delta)
        with torch.no_grad():
            delta = delta + INNER_STEP * radius * slope / (slope.norm() + 1e-12)
            delta *= (radius / (delta.norm() + 1e-12)).clamp(max=1)
    return delta.detach()
