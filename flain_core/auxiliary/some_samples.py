"""Some of many samples, without a copy of them."""

from __future__ import annotations

from flain_core.network import Array, Batch

from .samples import Samples

__all__ = ["SomeSamples"]


class SomeSamples(Samples):
    """Samples whose inputs are gathered each time that they are asked for.

    Args:
        whole: All samples.
        rows: ``(n,)`` which of them.
    """

    _whole: Samples
    _rows: Array

    def __init__(self, whole: Samples, rows: Array) -> None:
        # The base is frozen.
        self.__dict__.update(y=whole.y[rows], one_hot=whole.one_hot, _whole=whole, _rows=rows)

    @property
    def x(self) -> Batch:
        """The inputs, gathered now."""
        return self._whole[self._rows].x

    def __getitem__(self, which: slice | Array) -> SomeSamples:
        return SomeSamples(self._whole, self._rows[which])

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        return self._whole.usual_batch
