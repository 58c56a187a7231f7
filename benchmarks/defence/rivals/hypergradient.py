"""The gradient of an outer loss through the solution of an inner problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hypergradient(
    outer: Tensor, step: Tensor, delta: Tensor, parameters: Sequence[Tensor], iterations: int
) -> list[Tensor]:
    """Return dH(δ*(θ), θ)/dθ by fixed-point iteration (Grazzi et al. 2020, used by I-BAU).

    δ* solves δ = Φ(δ, θ). Then dH/dθ = ∂H/∂θ + (∂Φ/∂θ)ᵀ v, where v = (∂Φ/∂δ)ᵀ v + ∂H/∂δ is found
    by repeating that equation.

    Args:
        outer: H, a scalar that depends on `delta` and on `parameters`.
        step: Φ, one step of solving the inner problem, of the shape of `delta`, likewise.
        delta: The solution δ*.
        parameters: θ, each of any shape.
        iterations: How often the equation of v is repeated.
    """
    at_delta, *at_parameters = torch.autograd.grad(
        outer, [delta, *parameters], retain_graph=True, materialize_grads=True
    )
    v = at_delta
    for _ in range(iterations):
        (pulled,) = torch.autograd.grad(step, delta, v, retain_graph=True)
        v = pulled + at_delta
    through = torch.autograd.grad(step, list(parameters), v, materialize_grads=True)
    return [direct + indirect for direct, indirect in zip(at_parameters, through, strict=True)]
