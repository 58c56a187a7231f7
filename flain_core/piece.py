"""A batch of the samples, run once up to a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .auxiliary import Samples
from .network import Cut

__all__ = ["Piece", "bytes_kept", "bytes_of"]


@dataclass(frozen=True, eq=False)
class Piece:
    """A batch, with its cut where the memory limit allowed to keep it.

    Attributes:
        probe: Name of the probe it belongs to; None for the auxiliary samples.
        samples: The batch.
        cut: None means that the batch is cut anew whenever it is needed.
    """

    probe: str | None
    samples: Samples
    cut: Cut | None


def bytes_kept(cut: Cut) -> int:
    """About how much memory a cut needs during a search."""
    # The inputs and a copy of them that is sorted by neuron; the output and two that follow it.
    return 2 * int(cut.inputs.nbytes) + 3 * bytes_of(cut.output)


def bytes_of(output: Any) -> int:
    """How much memory a pre-activation takes; 0 where its type does not tell."""
    # Every array type that a backend would use has this attribute.
    return int(getattr(output, "nbytes", 0))
