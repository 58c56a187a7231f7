"""Samples that are not in memory: some of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from flain_core.network import Array, Batch

from .items import class_indices, each_leaf
from .samples import Samples, usual_batch
from .stream import SampleStream

__all__ = ["StreamedSamples"]


class StreamedSamples(Samples):
    """Samples whose inputs are drawn from their loader each time that they are asked for.

    Asked for batch after batch they cost one pass. Pickled, they become samples in memory.

    Args:
        stream: Gives the inputs.
        rows: ``(n,)`` which ones of the stream.
        y: Their labels.
        one_hot: As :class:`Samples` has it.
        last: The row at which a pass ends; None for the last of these.
    """

    _stream: SampleStream
    _rows: Array
    _last: int

    def __init__(
        self,
        stream: SampleStream,
        rows: Array,
        y: Array,
        *,
        one_hot: bool = False,
        last: int | None = None,
    ) -> None:
        if last is None:
            last = int(rows.max(initial=0))
        # The base is frozen.
        self.__dict__.update(y=y, one_hot=one_hot, _stream=stream, _rows=rows, _last=last)

    @classmethod
    def all_of(cls, stream: SampleStream, name: str, *, classify: bool) -> StreamedSamples:
        """Take all samples of a stream, with labels as :meth:`Samples.of` reads them.

        Raises:
            DataError: The labels cannot be used.
        """
        y, one_hot = stream.first.y, False
        if classify:
            y, one_hot = class_indices(y, name)
        return cls(stream, np.arange(len(y)), y, one_hot=one_hot)

    @property
    def in_memory(self) -> bool:
        """No: ``x`` is drawn from a loader."""
        return False

    @property
    def x(self) -> Batch:
        """The inputs, drawn now; asked for again, they cost another pass."""
        ascending = np.argsort(self._rows, kind="stable")
        drawn = self._stream.draw(self._rows[ascending], last=self._last)
        if (ascending[:-1] < ascending[1:]).all():
            return drawn
        places = np.argsort(ascending)
        return each_leaf(drawn, lambda leaf: leaf[places])

    def __getitem__(self, which: slice | Array) -> StreamedSamples:
        rows, y = self._rows[which], self.y[which]
        return StreamedSamples(self._stream, rows, y, one_hot=self.one_hot)

    def batches(self, size: int | None = None) -> Iterator[Samples]:
        """Consecutive batches, whose inputs are drawn when they are asked for."""
        size = size or self.usual_batch
        for start in range(0, len(self), size):
            rows, y = self._rows[start : start + size], self.y[start : start + size]
            # All of them are one pass.
            yield StreamedSamples(self._stream, rows, y, one_hot=self.one_hot, last=self._last)

    @cached_property
    def first_alike(self) -> Array:
        """``(n,)`` for each sample the index of the first one with the same numbers in x."""
        alike = self._stream.first.first_alike[self._rows]
        _, first, inverse = np.unique(alike, return_index=True, return_inverse=True)
        found: Array = first[inverse]
        return found

    @property
    def are_pixels(self) -> bool:
        """Whether the inputs of the whole stream look like pixels."""
        return self._stream.first.are_pixels

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        return usual_batch(self._stream.first.nbytes // len(self._stream.first))

    @property
    def nbytes(self) -> int:
        """None: nothing is kept."""
        return 0

    def __reduce__(self) -> tuple[type[Samples], tuple[Any, ...]]:
        # A loader need not be where the samples are sent, nor can it always be pickled.
        return Samples, (self.x, self.y, self.one_hot)
