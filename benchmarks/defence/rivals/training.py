"""Training on auxiliary samples, for the rivals that fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from .shared import Samples

Gradients: TypeAlias = Callable[[nn.Module, Samples], None]

EPOCHS = 30
BATCH = 64
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def loss_gradients(model: nn.Module, batch: Samples) -> None:
    """Add to each parameter's `grad` the gradient of the mean cross-entropy."""
    nn.functional.cross_entropy(model(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]


def train(
    model: nn.Module,
    samples: Samples,
    rate: float,
    *,
    gradients: Gradients = loss_gradients,
    after_step: Callable[[], None] | None = None,
) -> nn.Module:
    """Train in place, and return the model in evaluation mode.

    SGD with momentum, its rate falling from `rate` to 0 along a cosine. Dropout and batch norm
    do what they do in training.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    steps = EPOCHS * samples.steps(BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    model.train()
    for batch in samples.some_batches(BATCH, steps):
        optimizer.zero_grad()
        gradients(model, batch)
        optimizer.step()
        schedule.step()
        if after_step is not None:
            after_step()
    return model.eval()
