"""RNP: reconstructive neuron pruning (Li et al., ICML 2023).

Unlearning what the clean samples show leaves the backdoor as it is. Masks learned on the unlearned
model, so that it recovers, then fall for the neurons of the backdoor, and those are pruned in the
model as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from .neurons import Neurons, hidden_neurons, ones, prune, scaled, with_parameters
from .shared import Array, Samples, accuracy, copy_of

BATCH = 128
MOMENTUM = 0.9
EPOCHS = 20
LEAST_STEPS = 80
UNLEARNING_RATE = 0.01
UNLEARNING_DECAY = 5e-4
UNLEARNT = 0.2
RECOVERING_RATES = (0.2, 0.06, 0.02)
"""Values of the published code: 20 epochs each, which are 80 steps with its 500 samples, and no
fewer here; unlearning goes at a tenth of the rate from half-way on, and ends when the accuracy is
20 %, here looked at after each step. Recovering at the published 0.2 makes masks of small networks
fall to 0 all at once, so smaller rates are tried too."""

LARGEST_GRADIENT = 20.0


def rnp(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Unlearn, recover with masks, and keep the masks by which most neurons can be pruned.

    Raises:
        NotApplicable: The model has no hidden neurons.
    """
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        groups = hidden_neurons(copy)
        unlearnt = deepcopy(copy)
        unlearn(unlearnt, samples)
        return max(
            (
                _pruned(copy, groups, recover(unlearnt, groups, samples, rate), samples)
                for rate in RECOVERING_RATES
            ),
            key=lambda pruned: silent_neurons(pruned, groups),
        )


def unlearn(model: nn.Module, samples: Samples) -> None:
    """Raise the loss on the samples, in place, until few are classified correctly.

    With fewer than five classes that is as few as guessing would get right.
    """
    with torch.no_grad():
        enough = max(UNLEARNT, 1 / model(samples.x[:1]).shape[1])
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(
        parameters, lr=UNLEARNING_RATE, momentum=MOMENTUM, weight_decay=UNLEARNING_DECAY
    )
    steps = _steps(samples)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2], gamma=0.1)
    for batch in samples.some_batches(BATCH, steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch.x), batch.y)
        (-loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        if accuracy(model, samples) <= enough:
            break


def recover(
    model: nn.Module, groups: Sequence[Neurons], samples: Samples, rate: float
) -> list[Tensor]:
    """Return masks in [0, 1], (count,) for each layer, that lower the loss on the samples."""
    frozen = deepcopy(model).requires_grad_(False)
    masks = [mask.requires_grad_() for mask in ones(groups, model)]
    optimizer = torch.optim.SGD(masks, lr=rate, momentum=MOMENTUM)
    for batch in samples.some_batches(BATCH, _steps(samples)):
        forward = with_parameters(frozen, scaled(frozen, groups, masks))
        loss = nn.functional.cross_entropy(forward(batch.x), batch.y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for mask in masks:
                mask.clamp_(0, 1)
    return [mask.detach() for mask in masks]


def silent_neurons(model: nn.Module, groups: Sequence[Neurons]) -> int:
    """Return how many neurons have no weight but zero."""
    weights = (model.get_parameter(group.weight).detach() for group in groups)
    return sum(int(weight.reshape(len(weight), -1).eq(0).all(1).sum()) for weight in weights)


def _pruned(
    model: nn.Module, groups: Sequence[Neurons], masks: Sequence[Tensor], samples: Samples
) -> nn.Module:
    pruned = deepcopy(model)
    prune(pruned, groups, masks, samples)
    return pruned


def _steps(samples: Samples) -> int:
    return max(LEAST_STEPS, EPOCHS * samples.steps(BATCH))
