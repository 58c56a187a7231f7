"""A batch with its cut, and what more a cut may offer to make a search fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from flain_core.auxiliary.samples import Samples
from flain_core.network import Array, Cut

_BYTES_AT_WORK = 32 * 2**20  # larger arrays outgrow the cache, and each is mapped anew

Tail: TypeAlias = Callable[[Array], Array]
"""Computes scores ``(m, ...)`` from pre-activations ``(m, out)`` of any m samples."""


@dataclass(frozen=True, eq=False)
class CutBatch:
    """A batch, with its cut where the memory limit allowed to keep it.

    Attributes:
        probe: Name of the probe it belongs to; None for the auxiliary samples.
        samples: The batch.
        cut: None means that the batch is cut anew whenever it is needed.
    """

    probe: str | None
    samples: Samples
    cut: Cut | None


def cuts_of(batches: Sequence[CutBatch]) -> list[Cut]:
    """Return the cuts that were kept."""
    return [batch.cut for batch in batches if batch.cut]


def tail_by_sample(cut: Cut) -> Tail | None:
    """Return the function of a cut that scores pre-activations of any samples, if it has one."""
    tail: Tail | None = getattr(cut, "tail_by_sample", None)
    return tail


def pre_activation(cut: Cut) -> Array:
    """Return the layer's pre-activation ``(n, out)`` as a NumPy array."""
    output = cut.output
    # NumPy refuses tensors on another device.
    on_host = output.cpu() if hasattr(output, "cpu") else output
    return np.asarray(on_host).reshape(len(cut.inputs), -1)


def scores_of(cut: Cut, output: Array) -> Array:
    """Return the scores of a batch for a layer's pre-activation ``(n, out)`` as a NumPy array."""
    tail = tail_by_sample(cut)
    return cut.tail(output.reshape(cut.output.shape)) if tail is None else tail(output)


def bytes_kept(cut: Cut) -> int:
    """Return about how many bytes a cut needs during a search."""
    # What its tail reads besides: the whole batch, where nothing shorter than the model is right.
    return _bytes_at_layer(cut) + int(getattr(cut, "bytes_beside", 0))


def _bytes_at_layer(cut: Cut) -> int:
    # The inputs and a copy of them that is sorted by neuron; the output and two that follow it.
    return 2 * int(cut.inputs.nbytes) + 3 * bytes_of(cut.output)


def bytes_fitted(cut: Cut) -> int:
    """Return about how many bytes a flip in directions needs of a cut, beside what is kept."""
    samples, positions = len(cut.inputs), _positions(cut)
    # In double precision: the inputs; two solutions, or what is taken and a part of it; and
    # what leaves each sample out.
    outputs = math.prod(np.shape(cut.output))
    return int(8 * (cut.inputs.size + 2 * outputs + samples * positions**2))


def bytes_of_root(cut: Cut, samples: int) -> int:
    """Return how many bytes a flip in directions needs of a layer that sees so many samples."""
    # In double precision: one root, another that is being made, and two matrices for making it.
    smaller = min(int(cut.inputs.shape[1]), samples * _positions(cut))
    return 4 * 8 * smaller**2


def _positions(cut: Cut) -> int:
    return int(cut.inputs.size // max(len(cut.inputs) * cut.inputs.shape[1], 1))


def most_at_once(cut: Cut) -> int:
    """Return how many of its samples make a batch, as they may take much more at a layer."""
    if is_on_accelerator(cut.output):
        return len(cut.inputs)
    # A cut that gives way to smaller ones need not prepare its tail, which says what that reads.
    return max(1, len(cut.inputs) * _BYTES_AT_WORK // max(_bytes_at_layer(cut), 1))


def bytes_of(output: Any) -> int:
    """Return the bytes of a pre-activation; 0 where its type does not tell."""
    # Every array type that a backend would use has this attribute.
    return int(getattr(output, "nbytes", 0))


def is_on_accelerator(output: Any) -> bool:
    """Return whether a pre-activation lies on another device than the CPU."""
    # NumPy and PyTorch say "cpu", JAX "TFRT_CPU_0", TensorFlow "…/device:CPU:0".
    return "cpu" not in str(getattr(output, "device", "cpu")).lower()


def tails_of(cut: Cut) -> Callable[[Sequence[Any]], Iterable[Array]] | None:
    """Return the function of a cut that scores several pre-activations at once, if it has one."""
    tails: Callable[[Sequence[Any]], Iterable[Array]] | None = getattr(cut, "tails", None)
    return tails
