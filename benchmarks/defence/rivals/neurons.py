"""The hidden neurons of a model, and how masks act on them.

A neuron is an output channel of a convolution or an output of a dense layer. Where batch norm
follows, its scale and shift stand for those of the layer before it, as in the published code of
ANP and RNP. Outputs of the last layer are classes and are no neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .shared import TOLERANCE, Forward, NotApplicable, Samples, accuracy

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

INTACT = 0.95
"""Neurons with larger masks are never pruned: the largest threshold that RNP tries is 0.9."""

PRUNING_STEPS = 100
"""At most so many candidates are tried; wide networks lose several neurons at once."""


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer: names of its parameters, first axis `count` in each."""

    weight: str
    bias: str | None
    count: int


def followed_by_batch_norm(model: nn.Module) -> list[tuple[str, nn.Module, str | None]]:
    """List layers in the order of registration, each with the name of the batch norm after it.

    Order of registration stands for order of execution, and a batch norm belongs to the layer
    before it if it has a channel for each of its outputs.
    """
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (*CONV, nn.Linear, *BATCH_NORM))
    ]
    followers = [*layers[1:], ("", None)]
    return [
        (name, layer, after if _normalises(norm, layer) else None)
        for (name, layer), (after, norm) in zip(layers, followers, strict=True)
    ]


def hidden_neurons(model: nn.Module) -> tuple[Neurons, ...]:
    """List the hidden neurons, layer by layer, from input to output.

    Raises:
        NotApplicable: The model has none.
    """
    layers = followed_by_batch_norm(model)
    if layers and not isinstance(layers[-1][1], BATCH_NORM):
        layers.pop()
    groups = tuple(
        Neurons(
            weight=f"{name}.weight",
            bias=None if getattr(layer, "bias", None) is None else f"{name}.bias",
            count=len(layer.weight),  # type: ignore[arg-type]
        )
        for name, layer, norm in layers
        if norm is None and isinstance(getattr(layer, "weight", None), Tensor)
    )
    if not groups:
        raise NotApplicable(
            "masks need hidden neurons: a convolution, a dense layer or batch norm before the last "
            "layer; the model has none"
        )
    return groups


def ones(groups: Sequence[Neurons], model: nn.Module) -> list[Tensor]:
    """Return a mask of ones, (count,), for each layer."""
    like = next(model.parameters())
    return [like.new_ones(group.count) for group in groups]


def scaled(
    model: nn.Module,
    groups: Sequence[Neurons],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the parameters, by name, with each neuron's weight and bias times a factor.

    Factors have the shape (count,) for each layer; biases stay as they are for None.
    """
    parameters = dict(model.named_parameters())
    changed: dict[str, Tensor] = {}
    for index, group in enumerate(groups):
        changed[group.weight] = _by_neuron(weights[index], parameters[group.weight])
        if biases is not None and group.bias is not None:
            changed[group.bias] = biases[index] * parameters[group.bias]
    return changed


def with_parameters(model: nn.Module, parameters: Mapping[str, Tensor]) -> Forward:
    """Return the function that the model computes with some parameters exchanged."""

    def forward(x: Tensor) -> Tensor:
        scores: Tensor = torch.func.functional_call(model, dict(parameters), (x,))
        return scores

    return forward


def write(model: nn.Module, groups: Sequence[Neurons], masks: Sequence[Tensor]) -> None:
    """Multiply each neuron's weight by its mask, in place; its bias stays."""
    with torch.no_grad():
        for name, value in scaled(model, groups, masks).items():
            model.get_parameter(name).copy_(value)


def prune(
    model: nn.Module, groups: Sequence[Neurons], masks: Sequence[Tensor], samples: Samples
) -> None:
    """Set to zero, in place, the weights of neurons with low masks, as many as accuracy allows.

    Goes from the lowest mask upwards, ANP's "pruning by number", for as long as the accuracy on
    the samples has dropped by `TOLERANCE` at most. Of equal masks those in later layers go first,
    where the papers find most neurons of backdoors.
    """
    least = accuracy(model, samples) - TOLERANCE
    counts = [group.count for group in reversed(groups)]
    together = torch.cat(list(reversed(masks)))
    order = together.argsort(stable=True)
    candidates = order[together[order] <= INTACT]
    step = max(1, len(together) // PRUNING_STEPS)
    kept = ones(groups, model)
    for count in range(step, len(candidates) + step, step):
        candidate = torch.ones_like(together)
        candidate[candidates[:count]] = 0
        parts = list(reversed(torch.split(candidate, counts)))
        if accuracy(with_parameters(model, scaled(model, groups, parts)), samples) < least:
            break
        kept = parts
    write(model, groups, kept)


def _normalises(norm: nn.Module | None, layer: nn.Module) -> bool:
    if isinstance(layer, BATCH_NORM) or not isinstance(norm, BATCH_NORM) or not norm.affine:
        return False
    return isinstance(layer.weight, Tensor) and len(layer.weight) == norm.num_features


def _by_neuron(factor: Tensor, weight: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (weight.dim() - 1)) * weight
