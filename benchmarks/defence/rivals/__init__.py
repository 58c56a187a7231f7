"""Defences that flain is compared with, each written anew from its paper.

Each takes `(model, initial, x, y, *, seed)`: the backdoored model, the one that its training
started from, and the auxiliary samples, float32 (n, C, H, W) as the model takes them with integer
labels (n,), two of them or more. Each returns a purified copy in evaluation mode and leaves both
models as they are. The same seed gives the same result.

Whatever a paper leaves open, or sets for a network of another size, is chosen on the auxiliary
samples alone: the strongest setting that costs at most one point of their accuracy (`shared`).
Test data never enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from .anp import anp
from .clp import clp
from .fine_pruning import fine_pruning
from .fine_tuning import fine_tuning
from .ft_sam import ft_sam
from .i_bau import i_bau
from .nft import nft
from .none import none
from .resetting import resetting, zeroing
from .rnp import rnp
from .shared import Array, NotApplicable

__all__ = ["NEEDS_BATCH_NORM", "RIVALS", "NotApplicable", "Rival"]


class Rival(Protocol):
    """A defence; raises NotApplicable, with the reason, for a model that it cannot defend."""

    def __call__(
        self, model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int
    ) -> nn.Module:
        """Return a purified copy."""


RIVALS: Mapping[str, Rival] = {
    "none": none,
    "fine-tuning": fine_tuning,
    "ft-sam": ft_sam,
    "fine-pruning": fine_pruning,
    "clp": clp,
    "anp": anp,
    "rnp": rnp,
    "i-bau": i_bau,
    "nft": nft,
    "zeroing": zeroing,
    "resetting": resetting,
}
"""By the name that tables show."""

NEEDS_BATCH_NORM = frozenset({"clp"})
"""Rivals that defend no model without batch norm; ANP, RNP and NFT then mask whole neurons."""
