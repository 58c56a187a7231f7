"""How much of the memory limit batches may take, and how many samples a batch may have for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flain_core.auxiliary.samples import Samples
from flain_core.errors import FlainError
from flain_core.network import Batch, Network

from .cut_batch import bytes_kept
from .held_back import HeldBack

if TYPE_CHECKING:
    from flain_core.local_samples import LocalSamples

__all__ = ["bytes_copied", "few_enough"]

# A batch that runs has several tensors beside those that are kept of it.
_SHARE_OF_BATCH = 16
_LEAST_OF_BATCH = 2**20
# A batch is tried where its inputs, so many times larger at a layer, would not fit.
_GROWS_AT_MOST = 64
_TRIED = 2


def bytes_copied(clean: Samples, held_back: HeldBack | None) -> int:
    """Return the bytes of inputs that dividing the samples copied, beside the caller's own."""
    parts = [clean] if held_back is None else [clean, held_back.samples]
    return sum(_bytes_owned(vars(part).get("x", ())) for part in parts)


def few_enough(samples: LocalSamples, network: Network, layer: str) -> int | None:
    """Return how many samples a batch may have, so that one does not take all of the limit.

    What the caller asks for stays; None lets the size of a sample decide.

    Args:
        samples: All samples, with the limit.
        network: The model.
        layer: The layer that it is to be cut at.
    """
    limit = samples.memory_limit
    if samples.batch_size is not None:
        return samples.batch_size
    batch = next(samples.clean.batches())
    if _GROWS_AT_MOST * _bytes_of(batch.x) <= max(limit, _GROWS_AT_MOST * _LEAST_OF_BATCH):
        return None
    few = batch[:_TRIED]
    try:
        needed = bytes_kept(network.cut(layer, few.x)) // len(few)
    except FlainError:
        return None
    allowed = max(limit // _SHARE_OF_BATCH, _LEAST_OF_BATCH) // max(needed, 1)
    return min(len(batch), max(allowed, _TRIED))


def _bytes_owned(x: Batch) -> int:
    # The caller's arrays are views here.
    return sum(int(leaf.nbytes) for leaf in _leaves(x) if leaf.flags.owndata)


def _bytes_of(x: Batch) -> int:
    return sum(int(leaf.nbytes) for leaf in _leaves(x))


def _leaves(x: Batch) -> Iterator[Batch]:
    if isinstance(x, (dict, tuple)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)
    else:
        yield x
