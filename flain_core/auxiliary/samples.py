"""Samples with their labels: in memory, or drawn from a loader in each pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flain_core.errors import DataError
from flain_core.network import Array, Batch

from .items import check_inputs, class_indices, each_leaf, hashes, leaves
from .pixel_look import are_pixels, brightest
from .reading import SHARE_KEPT, read
from .stream import SampleStream

__all__ = ["Samples", "StreamedSamples"]

_BATCH_BYTES = 8 * 2**20
_LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels of n samples.

    They are in memory; those of :class:`StreamedSamples` are drawn each time that ``x`` is asked
    for.

    Attributes:
        x: An array ``(n, ...)``, or a tuple or dict of such arrays for models of several inputs.
        y: ``(n,)`` class indices, or ``(n, ...)`` for a score function of the caller's.
        one_hot: Whether the labels came one-hot and were turned into class indices.
    """

    x: Batch
    y: Array
    one_hot: bool = False

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        name: str = "data",
        classify: bool = True,
        memory_limit: int | None = None,
    ) -> Samples:
        """Read samples in any of the forms that users have.

        Args:
            data: ``(x, y)`` arrays or CPU/GPU tensors; the path of an ``.npz`` file with ``x`` and
                ``y``; an iterable of ``(x, y)`` batches, such as a PyTorch ``DataLoader``, a
                ``tf.data.Dataset`` or a Keras ``PyDataset``; or a sequence of ``(x, y)`` samples,
                such as a PyTorch ``Dataset``. Instead of ``(x, y)``, batches and samples may be
                dicts of columns, as Hugging Face's ``datasets`` gives them: ``label``, ``labels``,
                ``y`` or ``target`` is y, the other columns are x, a single one as an array.
                Loaders and datasets are read once and kept, unless their inputs are too large.
            name: What error messages call the data.
            classify: Labels must be classes: integers ``(n,)``, or one-hot ``(n, classes)``.
            memory_limit: In bytes. If the inputs that a loader or dataset gives take more than an
                eighth of it, only their labels and hashes are kept, and the inputs are drawn anew
                in each pass; None keeps them all.

        Raises:
            DataError: The data is empty, holds NaN or infinity, or x and y do not fit each other;
                a loader fails; or a generator, which gives its samples once, gives too many.

        Example:
            >>> samples = Samples.of((np.zeros((2, 3)), np.array([0, 1])))
            >>> len(samples), samples.y
            (2, array([0, 1]))
        """
        if isinstance(data, Samples) and not data.in_memory:
            return data
        given = (data.x, data.y) if isinstance(data, Samples) else data
        found = read(given, name, None if memory_limit is None else memory_limit // SHARE_KEPT)
        if isinstance(found, SampleStream):
            return StreamedSamples.all_of(found, name, classify=classify)
        x, y = found
        check_inputs(x, name)
        count = len(leaves(x)[0])
        if y.ndim < 1 or len(y) != count:
            raise DataError(
                f"{name}: expected one label for each of the {count} samples; got labels of shape "
                f"{y.shape}"
            )
        if not classify:
            return cls(x, y)
        classes, one_hot = class_indices(y, name)
        return cls(x, classes, one_hot)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def in_memory(self) -> bool:
        """Whether ``x`` is at hand, and not drawn from a loader."""
        return True

    def batches(self, size: int | None = None) -> Iterator[Samples]:
        """Consecutive batches.

        Args:
            size: Samples per batch, at least 1; None takes as many as make about 8 MiB of input,
                at most 256: larger ones outgrow the cache.
        """
        size = size or self.usual_batch
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def __getitem__(self, which: slice | Array) -> Samples:
        return Samples(each_leaf(self.x, lambda array: array[which]), self.y[which], self.one_hot)

    @cached_property
    def first_alike(self) -> Array:
        """``(n,)`` for each sample the index of the first one with the same numbers in x."""
        seen: dict[bytes, int] = {}
        pairs = enumerate(hashes(self.x, self.y))
        first = [seen.setdefault(of_inputs, index) for index, (of_inputs, _) in pairs]
        return np.array(first, dtype=np.intp)

    @property
    def are_pixels(self) -> bool:
        """Whether every input is a whole number up to 255, some large, and of a type of pixels."""
        return are_pixels(map(brightest, leaves(self.x)))

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        return _usual_batch(self.nbytes // len(self))

    @property
    def nbytes(self) -> int:
        """Bytes that the inputs take in memory."""
        return sum(leaf.nbytes for leaf in leaves(self.x))


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
        return _usual_batch(self._stream.first.nbytes // len(self._stream.first))

    @property
    def nbytes(self) -> int:
        """None: nothing is kept."""
        return 0

    def __reduce__(self) -> tuple[type[Samples], tuple[Any, ...]]:
        # A loader need not be where the samples are sent, nor can it always be pickled.
        return Samples, (self.x, self.y, self.one_hot)


def _usual_batch(sample: int) -> int:
    """Return how many samples of so many bytes make a batch, unless told otherwise."""
    return int(np.clip(_BATCH_BYTES // max(sample, 1), 1, _LARGEST_BATCH))
