"""How much of the memory limit is taken before batches are kept."""

from __future__ import annotations

from collections.abc import Iterator

from flain_core.auxiliary.samples import Samples
from flain_core.network import Batch

from .held_back import HeldBack

__all__ = ["bytes_copied"]


def bytes_copied(clean: Samples, held_back: HeldBack | None) -> int:
    """Return the bytes of inputs that dividing the samples copied, beside the caller's own."""
    parts = [clean] if held_back is None else [clean, held_back.samples]
    return sum(_bytes_owned(vars(part).get("x", ())) for part in parts)


def _bytes_owned(x: Batch) -> int:
    # The caller's arrays are views here.
    return sum(int(leaf.nbytes) for leaf in _leaves(x) if leaf.flags.owndata)


def _leaves(x: Batch) -> Iterator[Batch]:
    if isinstance(x, (dict, tuple)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)
    else:
        yield x
