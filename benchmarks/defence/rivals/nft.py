"""NFT: neural mask fine-tuning with MixUp (Karim et al., ECCV 2024).

Trains a mask in [floor, 1] for each neuron, and no weight, on convex mixtures of clean samples,
which stand in for triggered ones. A penalty on ‖1 − m‖₁ keeps the model near what it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .neurons import Neurons, hidden_neurons, ones, scaled, with_parameters, write
from .shared import Array, Samples, copy_of, strongest

RATES = (1.5, 0.5, 0.15, 0.05)
EPOCHS = 30
BATCH = 64
MOMENTUM = 0.9
PENALTY = 1e-4
FLOOR_DECAY = 0.3
"""Ours, as are the rates, for networks of a few layers."""


def nft(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Fine-tune masks with the largest rate that keeps the accuracy on samples held back.

    Raises:
        NotApplicable: The model has no hidden neurons.
    """
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        groups = hidden_neurons(copy)
        copy.requires_grad_(False)
        rate = strongest(
            RATES,
            lambda rate, part: with_parameters(
                copy, scaled(copy, groups, tuned_masks(copy, groups, part, rate))
            ),
            copy,
            samples,
        )
        write(copy, groups, tuned_masks(copy, groups, samples, rate))
        return copy


def tuned_masks(
    model: nn.Module, groups: tuple[Neurons, ...], samples: Samples, rate: float
) -> list[Tensor]:
    """Return the masks, (count,) for each layer."""
    masks = [mask.requires_grad_() for mask in ones(groups, model)]
    optimizer = torch.optim.SGD(masks, lr=rate, momentum=MOMENTUM)
    for batch in samples.some_batches(BATCH, EPOCHS * samples.steps(BATCH)):
        share = float(torch.rand(()))
        loss = mixup_loss(model, scaled(model, groups, masks), batch, share)
        loss = loss + PENALTY * sum((1 - mask).abs().sum() for mask in masks)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for mask, floor in zip(masks, floors(len(masks)), strict=True):
                mask.clamp_(floor, 1)
    return [mask.detach() for mask in masks]


def floors(layers: int) -> list[float]:
    """Return the least mask of each layer: early layers, which triggers hardly own, change least.

    Falls exponentially with depth, from exp(−0.3) at the first layer.
    """
    return [float(torch.exp(torch.tensor(-FLOOR_DECAY * (depth + 1)))) for depth in range(layers)]


def mixup_loss(
    model: nn.Module, parameters: dict[str, Tensor], batch: Samples, share: float
) -> Tensor:
    """Return the loss on share · x + (1 − share) · x', with x' the batch in random order.

    MixUp (Zhang et al. 2018): the loss mixes the losses for both labels in the same way.
    """
    order = torch.randperm(len(batch)).to(batch.y.device)
    scores = with_parameters(model, parameters)(share * batch.x + (1 - share) * batch.x[order])
    loss = nn.functional.cross_entropy
    return share * loss(scores, batch.y) + (1 - share) * loss(scores, batch.y[order])
