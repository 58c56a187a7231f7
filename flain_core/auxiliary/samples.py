"""Samples: arrays, loaders, datasets or an .npz file become one set of samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from flain_core.errors import DataError, listed
from flain_core.network import Array, Batch

from .items import (
    array_of,
    check_inputs,
    class_indices,
    each_leaf,
    hashes,
    leaf_lengths,
    leaves,
    pair_of,
    together,
)
from .pairs import Pairs, by_index
from .pixel_look import PixelLook
from .stream import SampleStream

_BATCH_BYTES = 8 * 2**20
_LARGEST_BATCH = 256
_SHARE_KEPT = 8


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels of n samples.

    They are in memory; those of
    :class:`~flain_core.auxiliary.streamed_samples.StreamedSamples` are drawn each time that ``x``
    is asked for.

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
        read = _read(data, name, None if memory_limit is None else memory_limit // _SHARE_KEPT)
        if isinstance(read, SampleStream):
            from .streamed_samples import StreamedSamples

            return StreamedSamples.all_of(read, name, classify=classify)
        x, y = read
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
        looks = [PixelLook() for _ in leaves(self.x)]
        for look, leaf in zip(looks, leaves(self.x), strict=True):
            look.see(leaf)
        return all(look.found for look in looks)

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        return usual_batch(self.nbytes // len(self))

    @property
    def nbytes(self) -> int:
        """Bytes that the inputs take in memory."""
        return sum(leaf.nbytes for leaf in leaves(self.x))


def usual_batch(sample: int) -> int:
    """Return how many samples of so many bytes make a batch, unless told otherwise."""
    return int(np.clip(_BATCH_BYTES // max(sample, 1), 1, _LARGEST_BATCH))


def _read(data: Any, name: str, most: int | None) -> tuple[Batch, Array] | SampleStream:
    if isinstance(data, Samples):
        return data.x, data.y
    if isinstance(data, (str, os.PathLike)):
        return _read_npz(Path(data), name)
    if isinstance(data, tuple) and len(data) == 2:
        return each_leaf(data[0], array_of), array_of(data[1])
    count = getattr(data, "num_batches", None)
    if count is not None and hasattr(data, "__getitem__"):
        # Items of Keras's PyDataset are batches, and iterating over it does not end by itself.
        return _gathered(Pairs(by_index(data, count), name, data), most)
    if isinstance(data, Mapping):
        return pair_of(data, name)
    if isinstance(data, list) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
        raise DataError(f"{name}: expected a tuple (x, y); got a list. Write data=(x, y)")
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        raise DataError(
            f"{name}: expected a tuple (x, y); got one array, so the labels are missing"
        )
    if isinstance(data, Iterable):
        return _gathered(Pairs(data, name), most)
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        return _gathered(Pairs(by_index(data, len(data)), name, data), most, batches=False)
    raise DataError(
        f"{name}: expected (x, y) arrays, a loader or dataset of (x, y) pairs, or the path of an "
        f".npz file with x and y; got {type(data).__name__}"
    )


def _read_npz(path: Path, name: str) -> tuple[Batch, Array]:
    from flain_core.storage.archives import is_archive
    from flain_core.storage.npz import opened

    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe would block for ever, and cannot be read from both ends as an archive has to be.
        raise DataError(f"{name}: expected {path} to be a regular file; save the samples in one")
    if os.path.isfile(path) and not is_archive(path):
        raise DataError(
            f"{name}: expected {path} to be an .npz file of plain arrays x and y, as numpy.savez "
            "writes it; it is something else, or cut short"
        )
    try:
        with opened(path, error=DataError) as file:
            arrays = {key: file[key] for key in ("x", "y") if key in file}
            keys = list(file)
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no file {path}") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:
        # A damaged file makes zipfile, zlib and NumPy raise nearly anything.
        raise DataError(
            f"{name}: expected {path} to be an .npz file of plain arrays x and y, as numpy.savez "
            f"writes it; it cannot be read ({error})"
        ) from error
    if len(arrays) < 2:
        raise DataError(f"{name}: expected arrays x and y in {path}; it holds {listed(keys)}")
    return arrays["x"], arrays["y"]


def _gathered(
    pairs: Pairs, most: int | None, *, batches: bool | None = None
) -> tuple[Batch, Array] | SampleStream:
    """Keep what a loader gives, or leave it to a stream if that is more than ``most`` bytes.

    ``batches`` tells batches from samples; None looks at them.
    """
    kept: list[tuple[Batch, Array]] = []
    nbytes = 0
    giving = iter(pairs)
    for pair in giving:
        kept.append(pair)
        nbytes += sum(leaf.nbytes for leaf in leaves(pair[0]))
        if most is not None and nbytes > most:
            del pair  # it would stay in memory until the first pass ends
            return SampleStream(pairs, chain(_taken_out(kept), giving), batches, _SHARE_KEPT)
    if not kept:
        raise DataError(
            f"{pairs.name}: expected at least one sample; the loader or dataset is empty"
        )
    if batches is None:
        batches = all(y.ndim > 0 and leaf_lengths(x) == {len(y)} for x, y in kept)
    return _joined(kept, np.concatenate if batches else np.stack, pairs.name)


def _taken_out(kept: list[tuple[Batch, Array]]) -> Iterator[tuple[Batch, Array]]:
    """Yield pairs, and let go of each; they take up memory."""
    kept.reverse()
    while kept:
        yield kept.pop()


def _joined(
    pairs: list[tuple[Batch, Array]], join: Callable[[list[Array]], Array], name: str
) -> tuple[Batch, Array]:
    try:
        return together([x for x, _ in pairs], join), join([y for _, y in pairs])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name}: samples of different shapes cannot be batched: {error}"
        ) from error
