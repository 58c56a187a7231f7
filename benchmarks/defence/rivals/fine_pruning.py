"""Fine-Pruning: prune channels that clean data leaves silent, then fine-tune (Liu et al., 2018)."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .fine_tuning import RATES
from .neurons import CONV, followed_by_batch_norm
from .shared import Array, NotApplicable, Samples, accuracy, copy_of, strongest
from .training import train

PRUNING_TOLERANCE = 0.04
"""Accuracy that pruning may cost, a fraction; fine-tuning wins it back."""

STEPS = 32
"""At most so many candidates are tried; wider layers lose several channels at once."""


def fine_pruning(
    model: nn.Module,
    initial: nn.Module,
    x: Array,
    y: Array,
    *,
    seed: int,
) -> nn.Module:
    """Prune the last convolution until accuracy falls, and fine-tune what is left.

    Raises:
        NotApplicable: The model has no convolution.
    """
    samples = Samples.of(model, x, y)
    with copy_of(model, seed) as copy:
        names = last_convolution(copy)
        gone = silent_channels(copy, names, samples)
        pruned = deepcopy(copy)
        silence(pruned, names, gone)

        def tuned(rate: float, part: Samples) -> nn.Module:
            tuning = deepcopy(pruned)
            return train(tuning, part, rate, after_step=lambda: silence(tuning, names, gone))

        rate = strongest(RATES, tuned, copy, samples)
        copy.load_state_dict(tuned(rate, samples).state_dict())
        return copy


def last_convolution(model: nn.Module) -> tuple[str, ...]:
    """Return the name of the last convolution, and of the batch norm that follows, if one does."""
    found = [
        (name, norm)
        for name, layer, norm in followed_by_batch_norm(model)
        if isinstance(layer, CONV)
    ]
    if not found:
        raise NotApplicable(
            "Fine-Pruning prunes channels of the last convolution; the model has no convolution"
        )
    name, norm = found[-1]
    return (name,) if norm is None else (name, norm)


def silent_channels(model: nn.Module, names: tuple[str, ...], samples: Samples) -> Tensor:
    """Return which channels, bool (channels,), can be pruned: the least active ones.

    Goes from the lowest mean activation upwards until the accuracy on the samples has dropped by
    more than `PRUNING_TOLERANCE`. A channel's activation is its output behind a ReLU.
    """
    order = mean_activation(model, names, samples).argsort()
    least = accuracy(model, samples) - PRUNING_TOLERANCE
    step = -(-len(order) // STEPS)
    pruned = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    for count in range(step, len(order), step):
        candidate = pruned.clone()
        candidate[order[:count]] = True
        trial = deepcopy(model)
        silence(trial, names, candidate)
        if accuracy(trial, samples) < least:
            break
        pruned = candidate
    return pruned


def mean_activation(model: nn.Module, names: tuple[str, ...], samples: Samples) -> Tensor:
    """Return each channel's mean output behind a ReLU, (channels,)."""
    sums: list[Tensor] = []

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        sums.append(output.relu().flatten(2).mean(2).sum(0))

    hook = model.get_submodule(names[-1]).register_forward_hook(add)
    try:
        accuracy(model, samples)
    finally:
        hook.remove()
    return torch.stack(sums).sum(0) / len(samples)


def silence(model: nn.Module, names: tuple[str, ...], channels: Tensor) -> None:
    """Set to zero, in place, every parameter of those channels, bool (channels,)."""
    with torch.no_grad():
        for name in names:
            for parameter in model.get_submodule(name).parameters(recurse=False):
                parameter[channels] = 0
