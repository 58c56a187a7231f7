"""ANP: adversarial neuron pruning (Wu and Wang, NeurIPS 2021).

Neurons of a backdoor are those whose small perturbation makes the model fail on clean data. ANP
learns a mask m in [0, 1] for each neuron that keeps the loss low while an adversary scales the
neuron's weight by m + δ and its bias by 1 + ξ, with |δ|, |ξ| ≤ ε:
min_m α L(m, 0, 0) + (1 − α) max_{δ, ξ} L(m, δ, ξ). Neurons with small masks are pruned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .neurons import Neurons, hidden_neurons, ones, prune, scaled, with_parameters
from .shared import Array, Samples, copy_of

BUDGET = 0.4
CLEAN_SHARE = 0.2
RATE = 0.2
MOMENTUM = 0.9
BATCH = 64
ITERATIONS = 1000
"""The paper's ε, α, learning rate and momentum; it takes 2,000 steps of 128 samples, for a
network with forty times as many neurons."""


def anp(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Learn masks against the adversary, and prune as many neurons as accuracy allows.

    Raises:
        NotApplicable: The model has no hidden neurons.
    """
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        groups = hidden_neurons(copy)
        copy.requires_grad_(False)
        masks = [mask.requires_grad_() for mask in ones(groups, copy)]
        optimizer = torch.optim.SGD(masks, lr=RATE, momentum=MOMENTUM)
        for batch in samples.some_batches(BATCH, ITERATIONS):
            noise = adversary(copy, groups, masks, batch)
            clean = _loss(copy, groups, masks, None, batch)
            noisy = _loss(copy, groups, masks, noise, batch)
            optimizer.zero_grad()
            (CLEAN_SHARE * clean + (1 - CLEAN_SHARE) * noisy).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
        prune(copy, groups, [mask.detach() for mask in masks], samples)
        return copy


Noise = tuple[list[Tensor], list[Tensor]]


def adversary(
    model: nn.Module, groups: Sequence[Neurons], masks: Sequence[Tensor], batch: Samples
) -> Noise:
    """Return δ and ξ, one (count,) of each for each layer, after a step up the loss.

    As in the paper: from a uniform random start, one step of size ε along the sign of the
    gradient, cut back to [−ε, ε].
    """
    weights, biases = (
        [torch.empty_like(mask).uniform_(-BUDGET, BUDGET).requires_grad_() for mask in masks]
        for _ in range(2)
    )
    fixed = [mask.detach() for mask in masks]
    loss = _loss(model, groups, fixed, (weights, biases), batch)
    slopes = torch.autograd.grad(loss, [*weights, *biases], allow_unused=True)
    worst = [
        (start + BUDGET * (torch.zeros_like(start) if slope is None else slope.sign()))
        .clamp(-BUDGET, BUDGET)
        .detach()
        for start, slope in zip([*weights, *biases], slopes, strict=True)
    ]
    return worst[: len(weights)], worst[len(weights) :]


def _loss(
    model: nn.Module,
    groups: Sequence[Neurons],
    masks: Sequence[Tensor],
    noise: Noise | None,
    batch: Samples,
) -> Tensor:
    if noise is None:
        parameters = scaled(model, groups, masks)
    else:
        weights = [mask + delta for mask, delta in zip(masks, noise[0], strict=True)]
        parameters = scaled(model, groups, weights, [1 + xi for xi in noise[1]])
    return nn.functional.cross_entropy(with_parameters(model, parameters)(batch.x), batch.y)
