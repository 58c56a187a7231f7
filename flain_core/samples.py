"""Samples: arrays, loaders, datasets or an .npz file become one set of arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError, listed
from .network import Array, Batch

_BATCH_BYTES = 8 * 2**20
_LARGEST_BATCH = 256
_LARGEST_LABEL = 2**31
_DARK, _BRIGHTEST = 30, 255
_LABEL_COLUMNS = ("label", "labels", "y", "target")


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels of n samples, in memory.

    Attributes:
        x: An array ``(n, ...)``, or a tuple or dict of such arrays for models of several inputs.
        y: ``(n,)`` class indices, or ``(n, ...)`` for a score function of the caller's.
        one_hot: Whether the labels came one-hot and were turned into class indices.
    """

    x: Batch
    y: Array
    one_hot: bool = False

    @classmethod
    def of(cls, data: Any, *, name: str = "data", classify: bool = True) -> Samples:
        """Read samples in any of the forms that users have.

        Args:
            data: ``(x, y)`` arrays or CPU/GPU tensors; the path of an ``.npz`` file with ``x`` and
                ``y``; an iterable of ``(x, y)`` batches, such as a PyTorch ``DataLoader``, a
                ``tf.data.Dataset`` or a Keras ``PyDataset``; or a sequence of ``(x, y)`` samples,
                such as a PyTorch ``Dataset``. Instead of ``(x, y)``, batches and samples may be
                dicts of columns, as Hugging Face's ``datasets`` gives them: ``label``, ``labels``,
                ``y`` or ``target`` is y, the other columns are x, a single one as an array.
                Iterables are read once, and kept.
            name: What error messages call the data.
            classify: Labels must be classes: integers ``(n,)``, or one-hot ``(n, classes)``.

        Raises:
            DataError: The data is empty, holds NaN or infinity, or x and y do not fit each other.

        Example:
            >>> samples = Samples.of((np.zeros((2, 3)), np.array([0, 1])))
            >>> len(samples), samples.y
            (2, array([0, 1]))
        """
        x, y = _read(data, name)
        _check_inputs(x, name)
        count = len(_leaves(x)[0])
        if y.ndim < 1 or len(y) != count:
            raise DataError(
                f"{name}: expected one label for each of the {count} samples; got labels of shape "
                f"{y.shape}"
            )
        if not classify:
            return cls(x, y)
        classes, one_hot = _class_indices(y, name)
        return cls(x, classes, one_hot)

    def __len__(self) -> int:
        return len(self.y)

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
        return Samples(_each(self.x, lambda array: array[which]), self.y[which], self.one_hot)

    @cached_property
    def first_alike(self) -> Array:
        """``(n,)`` for each sample the index of the first one with the same numbers in x."""
        leaves = [np.ascontiguousarray(leaf) for leaf in _leaves(self.x)]
        seen: dict[bytes, int] = {}
        first = np.empty(len(self), dtype=np.intp)
        for index in range(len(self)):
            numbers = sha256()
            for leaf in leaves:
                numbers.update(leaf[index].data)
            first[index] = seen.setdefault(numbers.digest(), index)
        return first

    @property
    def are_pixels(self) -> bool:
        """Whether every input is a whole number up to 255, some large, and of a type of pixels."""
        leaves = [leaf for leaf in _leaves(self.x) if leaf.size]
        return all(
            (leaf.dtype.kind == "f" or leaf.dtype == np.uint8)
            and leaf.min() >= 0
            and _DARK < leaf.max() <= _BRIGHTEST
            and bool((leaf == np.floor(leaf)).all())
            for leaf in leaves
        )

    @property
    def usual_batch(self) -> int:
        """Default number of samples per batch."""
        per_sample = sum(array.nbytes for array in _leaves(self.x)) // len(self)
        return int(np.clip(_BATCH_BYTES // max(per_sample, 1), 1, _LARGEST_BATCH))


def _read(data: Any, name: str) -> tuple[Batch, Array]:
    if isinstance(data, Samples):
        return data.x, data.y
    if isinstance(data, (str, os.PathLike)):
        return _read_npz(Path(data), name)
    if isinstance(data, tuple) and len(data) == 2:
        return _each(data[0], _array), _array(data[1])
    count = getattr(data, "num_batches", None)
    if count is not None and hasattr(data, "__getitem__"):
        # Items of Keras's PyDataset are batches, and iterating over it does not end by itself.
        data = [data[index] for index in range(count)]
    if isinstance(data, Mapping):
        return _pair(data, name)
    if isinstance(data, list) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
        raise DataError(f"{name}: expected a tuple (x, y); got a list. Write data=(x, y)")
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        raise DataError(
            f"{name}: expected a tuple (x, y); got one array, so the labels are missing"
        )
    if isinstance(data, Iterable):
        pairs = _pairs(data, name)
        batches = all(y.ndim > 0 and _leaf_lengths(x) == {len(y)} for x, y in pairs)
        return _joined(pairs, np.concatenate if batches else np.stack, name)
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        samples: Any = data
        return _joined(_pairs((samples[i] for i in range(len(data))), name), np.stack, name)
    raise DataError(
        f"{name}: expected (x, y) arrays, a loader or dataset of (x, y) pairs, or the path of an "
        f".npz file with x and y; got {type(data).__name__}"
    )


def _read_npz(path: Path, name: str) -> tuple[Batch, Array]:
    from .storage.archives import is_archive
    from .storage.npz import opened

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


def _pairs(items: Iterable[Any], name: str) -> list[tuple[Batch, Array]]:
    pairs = []
    for item in items:
        if not isinstance(item, Mapping) and not (
            isinstance(item, (tuple, list)) and len(item) == 2
        ):
            raise DataError(
                f"{name}: expected the loader or dataset to give (x, y) pairs, or dicts with a "
                f"column of labels; it gives {type(item).__name__}"
                + (f" of length {len(item)}" if isinstance(item, Sized) else "")
            )
        pairs.append(_pair(item, name))
    if not pairs:
        raise DataError(f"{name}: expected at least one sample; the loader or dataset is empty")
    return pairs


def _pair(item: Any, name: str) -> tuple[Batch, Array]:
    if not isinstance(item, Mapping):
        return _each(item[0], _array), _array(item[1])
    labels = [column for column in item if column in _LABEL_COLUMNS]
    inputs = {column: _each(item[column], _array) for column in item if column not in labels}
    if len(labels) != 1 or not inputs:
        raise DataError(
            f"{name}: expected a tuple (x, y), or columns of which one is called "
            f"{', '.join(_LABEL_COLUMNS[:-1])} or {_LABEL_COLUMNS[-1]}; got "
            f"{listed(list(map(str, item)))}"
        )
    (first, *others) = inputs.values()
    return inputs if others else first, _array(item[labels[0]])


def _joined(
    pairs: list[tuple[Batch, Array]], join: Callable[[list[Array]], Array], name: str
) -> tuple[Batch, Array]:
    try:
        return _together([x for x, _ in pairs], join), join([y for _, y in pairs])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name}: samples of different shapes cannot be batched: {error}"
        ) from error


def _leaf_lengths(x: Batch) -> set[int]:
    return {len(leaf) if leaf.ndim else -1 for leaf in _leaves(x)}


def _together(xs: list[Batch], join: Callable[[list[Array]], Array]) -> Batch:
    first = xs[0]
    if isinstance(first, dict):
        return {key: _together([x[key] for x in xs], join) for key in first}
    if isinstance(first, tuple):
        return tuple(_together(list(parts), join) for parts in zip(*xs, strict=True))
    return join(xs)


def _each(x: Batch, function: Callable[[Any], Array]) -> Batch:
    if isinstance(x, Mapping):
        return {key: _each(value, function) for key, value in x.items()}
    if isinstance(x, tuple) or (isinstance(x, list) and x and hasattr(x[0], "shape")):
        return tuple(_each(value, function) for value in x)
    return function(x)


def _leaves(x: Batch) -> list[Array]:
    parts = x.values() if isinstance(x, dict) else x
    if isinstance(x, (dict, tuple)):
        return [leaf for value in parts for leaf in _leaves(value)]
    return [x]


def _array(value: Any) -> Array:
    """Return the values as an array, also those of a tensor that has gradients or is on a GPU."""
    # TensorFlow's tensors have a cpu() too, and warn of it.
    if hasattr(value, "detach"):
        for step in ("detach", "cpu", "resolve_neg", "resolve_conj"):
            value = getattr(value, step)() if hasattr(value, step) else value
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        value = value.float()
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(
            "expected arrays without missing numbers; got a masked array: leave out the samples "
            "that lack some, or fill them in"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"expected arrays of numbers, every row of the same length; a {type(value).__name__} "
            f"cannot be read as one: {error}"
        ) from error
    # A view that nobody can write through, so that the caller's samples stay as they are.
    array = array.view()
    array.flags.writeable = False
    return array


def _check_inputs(x: Batch, name: str) -> None:
    leaves = _leaves(x)
    lengths = _leaf_lengths(x)
    if len(lengths) != 1 or lengths <= {-1, 0}:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise DataError(f"{name}: expected at least one sample, x of shape (n, ...); got {shapes}")
    for leaf in leaves:
        if leaf.dtype.kind not in "fiub":
            raise DataError(f"{name}: expected x to hold numbers; got {leaf.dtype}")
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise DataError(f"{name}: x holds NaN or infinity; clean the samples first")


def _class_indices(y: Array, name: str) -> tuple[Array, bool]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        ones = (y == 1).sum(axis=1)
        if not ((y == 0) | (y == 1)).all() or not (ones == 1).all():
            raise DataError(
                f"{name}: expected class labels (n,), or one-hot labels (n, classes) with a single "
                f"1 in each row; got an array of shape {y.shape} that is neither"
            )
        return y.argmax(axis=1), True
    if y.ndim != 1 or y.dtype.kind not in "fiub":
        raise DataError(
            f"{name}: expected class labels as whole numbers of shape (n,); got {y.dtype} of shape "
            f"{y.shape}. For another task give score="
        )
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise DataError(
            f"{name}: expected class labels as whole numbers; got fractions or NaN. For another "
            "task give score="
        )
    if (y < 0).any() or (y > _LARGEST_LABEL).any():
        raise DataError(f"{name}: expected class labels from 0 up; got {y.min()} to {y.max()}")
    return y.astype(np.intp), False
