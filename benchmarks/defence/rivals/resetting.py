"""What flain does to low-activation neurons, with another value than the flipped weight.

The search is flain's, with its default settings. A factor of 1 resets a weight to its initial
value; with an initial model of zeros that means setting it to zero, as pruning does.
"""

from __future__ import annotations

import torch
from torch import nn

import flain

from .shared import Array, NotApplicable, copy_of


def resetting(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Give low-activation neurons their initial weights.

    Raises:
        NotApplicable: Training left the layer as it was.
    """
    with copy_of(model, seed) as copy:
        return _moved_to(initial, copy, x, y, seed)


_BY_NEURONS = flain.Settings(measure="score", flip="neurons", factor=1)


def zeroing(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """Set the weights of low-activation neurons to zero."""
    with copy_of(model, seed) as copy, copy_of(initial, seed) as zero, torch.no_grad():
        for parameter in zero.parameters():
            parameter.zero_()
        return _moved_to(zero, copy, x, y, seed)


def _moved_to(start: nn.Module, model: nn.Module, x: Array, y: Array, seed: int) -> nn.Module:
    try:
        result = flain.purify(model, initial=start, data=(x, y), settings=_BY_NEURONS, seed=seed)
    except flain.WeightsError as error:
        raise NotApplicable(str(error)) from error
    purified: nn.Module = result.model
    return purified.eval()
