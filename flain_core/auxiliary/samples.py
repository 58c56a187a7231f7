"""Auxiliary samples: inputs and labels, in memory or drawn from a loader, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np

from flain_core.blocks import is_small
from flain_core.errors import DataError
from flain_core.network import Array, Batch

from .items import check_inputs, class_indices, each_leaf, hashes, leaves
from .pixel_look import are_pixels, brightest
from .reading import read
from .stream import SHARE_KEPT, SampleStream

_BATCH_BYTES = 8 * 2**20
_LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels of n samples, in memory or drawn from a loader.

    Pickled, all of them are in memory.

    Attributes:
        held: The inputs: an array ``(n, ...)``, or a tuple or dict of such arrays for models of
            several inputs; or the stream that gives them.
        y: ``(n,)`` class indices, or ``(n, ...)`` for a score function of the caller's.
        one_hot: Whether the labels came one-hot and were turned into class indices.
        rows: ``(n,)`` which of those held; None for all that are in memory.
        last: The row at which a pass over a stream ends; None for the greatest of ``rows``.
    """

    held: Batch | SampleStream
    y: Array
    one_hot: bool = False
    rows: Array | None = None
    last: int | None = None

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
            held, y, rows = found, found.first.y, np.arange(len(found.first))
        else:
            (held, y), rows = found, None
            _check(held, y, name)
        one_hot = False
        if classify:
            y, one_hot = class_indices(y, name)
        return cls(held, y, one_hot, rows)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def in_memory(self) -> bool:
        """Whether the inputs are at hand, and not drawn from a loader."""
        return self._streamed is None

    @property
    def x(self) -> Batch:
        """The inputs. If they are some of those held, they are gathered or drawn each time."""
        if self._streamed is not None:
            return self._drawn(*self._streamed)
        return self.held if self.rows is None else each_leaf(self.held, itemgetter(self.rows))

    def __getitem__(self, which: slice | Array) -> Samples:
        if self.rows is not None:
            return replace(self, y=self.y[which], rows=self.rows[which], last=None)
        return replace(self, held=each_leaf(self.held, itemgetter(which)), y=self.y[which])

    def part(self, rows: Array) -> Samples:
        """Return some samples, and copy their inputs only if all of them together are small."""
        if self.rows is not None or is_small(self.nbytes):
            return self[rows]
        return replace(self, y=self.y[rows], rows=rows)

    def batches(self, size: int | None = None) -> Iterator[Samples]:
        """Consecutive batches; those of a stream are drawn in one pass, when they are asked for.

        Args:
            size: Samples per batch, at least 1; None takes as many as make about 8 MiB of input,
                at most 256: larger ones outgrow the cache.
        """
        size = size or self.usual_batch
        last = None if self._streamed is None else self._last(self._streamed[1])
        for start in range(0, len(self), size):
            yield replace(self[start : start + size], last=last)

    @cached_property
    def first_alike(self) -> Array:
        """``(n,)`` for each sample the index of the first one with the same numbers in x."""
        if self._streamed is not None:
            stream, rows = self._streamed
            of_inputs: Sequence[Any] = stream.first.first_alike[rows].tolist()
        else:
            of_inputs = [each for each, _ in hashes(self.x, self.y)]
        seen: dict[Any, int] = {}
        first = [seen.setdefault(each, index) for index, each in enumerate(of_inputs)]
        return np.array(first, dtype=np.intp)

    @property
    def are_pixels(self) -> bool:
        """Whether every input is a whole number up to 255, some large, and of a type of pixels.

        Of a stream those of all its samples are looked at.
        """
        if self._streamed is not None:
            return self._streamed[0].first.are_pixels
        return are_pixels(map(brightest, leaves(self.x)))

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        if self._streamed is not None:
            first = self._streamed[0].first
            of_one = first.nbytes // len(first)
        else:
            of_one = self.nbytes // max(len(leaves(self.held)[0]), 1)
        return int(np.clip(_BATCH_BYTES // max(of_one, 1), 1, _LARGEST_BATCH))

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs that are held in memory, also of a part; 0 for a stream."""
        return sum(leaf.nbytes for leaf in leaves(self.held)) if self.in_memory else 0

    @property
    def _streamed(self) -> tuple[SampleStream, Array] | None:
        """The stream, and which of its samples these are; None in memory."""
        if isinstance(self.held, SampleStream) and self.rows is not None:
            return self.held, self.rows
        return None

    def _drawn(self, stream: SampleStream, rows: Array) -> Batch:
        ascending = np.argsort(rows, kind="stable")
        drawn = stream.draw(rows[ascending], last=self._last(rows))
        if (ascending[:-1] < ascending[1:]).all():
            return drawn
        return each_leaf(drawn, itemgetter(np.argsort(ascending)))

    def _last(self, rows: Array) -> int:
        return int(rows.max(initial=0)) if self.last is None else self.last

    def __reduce__(self) -> tuple[type[Samples], tuple[Any, ...]]:
        # A loader need not be where the samples are sent, nor can it always be pickled.
        return Samples, (self.x, self.y, self.one_hot)


def _check(x: Batch, y: Array, name: str) -> None:
    check_inputs(x, name)
    count = len(leaves(x)[0])
    if y.ndim < 1 or len(y) != count:
        raise DataError(
            f"{name}: expected one label for each of the {count} samples; got labels of shape "
            f"{y.shape}"
        )
