"""CLP: prune channels with an outlying Lipschitz bound (Zheng et al., ECCV 2022).

A trigger is a small change of the input that changes the scores much, so that channels which carry
it have a large Lipschitz constant. The bound on channel k of a convolution with batch norm is
|γ_k| / √(σ²_k + ε) · s_k, where s_k is the largest singular value of its kernel as a matrix
(inputs, kernel positions). Needs no data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .neurons import BATCH_NORM, CONV, followed_by_batch_norm
from .shared import Array, NotApplicable, copy_of

OUTLYING = 3.0
"""The paper's u: channels beyond their layer's mean by more than u standard deviations go."""


def clp(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Prune the outlying channels of every convolution that batch norm follows.

    Raises:
        NotApplicable: No convolution is followed by batch norm.
    """
    with copy_of(model, seed) as copy:
        pairs = [
            (layer, copy.get_submodule(norm))
            for _, layer, norm in followed_by_batch_norm(copy)
            if isinstance(layer, CONV) and norm is not None
        ]
        if not any(norm.running_var is not None for _, norm in pairs):
            raise NotApplicable(
                "CLP bounds a channel by its convolution and the batch norm behind it; no "
                "convolution of the model is followed by batch norm with running statistics"
            )
        for layer, norm in pairs:
            if norm.running_var is not None:
                _silence(norm, outlying(lipschitz_bounds(layer, norm), OUTLYING))
        return copy


def lipschitz_bounds(convolution: nn.Module, norm: nn.Module) -> Tensor:
    """Return the bound on each channel, (channels,)."""
    assert isinstance(convolution, CONV)  # noqa: S101
    assert isinstance(norm, BATCH_NORM)  # noqa: S101
    assert norm.running_var is not None  # noqa: S101
    gain = norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
    bounds: Tensor = gain * torch.linalg.matrix_norm(convolution.weight.detach().flatten(2), ord=2)
    return bounds


def outlying(bounds: Tensor, deviations: float) -> Tensor:
    """Return which bounds exceed their mean by more than so many standard deviations, bool."""
    return bounds > bounds.mean() + deviations * bounds.std()


def _silence(norm: nn.Module, channels: Tensor) -> None:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter[channels] = 0
