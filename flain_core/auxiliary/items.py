"""Arrays of one item that users give: a pair or a dict of arrays, tensors, lists or numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from flain_core.errors import DataError, listed
from flain_core.network import Array, Batch
from flain_core.score_checks import LABELS_ARE_PLACES

_LARGEST_LABEL = 2**31
_LABEL_COLUMNS = ("label", "labels", "y", "target")


def pair_of(item: Any, name: str) -> tuple[Batch, Array]:
    """Return inputs and labels of a pair or a dict of columns, read by :func:`array_of`.

    Raises:
        DataError: There is not exactly one column of labels, or no other one.
    """
    if not isinstance(item, Mapping):
        return each_leaf(item[0], array_of), array_of(item[1])
    labels = [column for column in item if column in _LABEL_COLUMNS]
    inputs = {column: each_leaf(item[column], array_of) for column in item if column not in labels}
    if len(labels) != 1 or not inputs:
        raise DataError(
            f"{name}: expected a tuple (x, y), or columns of which one is called "
            f"{', '.join(_LABEL_COLUMNS[:-1])} or {_LABEL_COLUMNS[-1]}; got "
            f"{listed(list(map(str, item)))}"
        )
    (first, *others) = inputs.values()
    return inputs if others else first, array_of(item[labels[0]])


def array_of(value: Any) -> Array:
    """Return the values as an array, also those of a tensor that has gradients or is on a GPU."""
    # TensorFlow's tensors have a cpu() too, and warn of it.
    if hasattr(value, "detach"):
        if getattr(value, "is_meta", False):
            raise DataError(
                "expected tensors of numbers; got one on PyTorch's meta device, which has none"
            )
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


def each_leaf(x: Batch, function: Callable[[Any], Array]) -> Batch:
    """Apply a function to each array of a batch, and return them in the same structure."""
    if isinstance(x, Mapping):
        return {key: each_leaf(value, function) for key, value in x.items()}
    if isinstance(x, tuple) or (isinstance(x, list) and x and hasattr(x[0], "shape")):
        return tuple(each_leaf(value, function) for value in x)
    return function(x)


def leaves(x: Batch) -> list[Array]:
    """Return the arrays of a batch in order."""
    parts = x.values() if isinstance(x, dict) else x
    if isinstance(x, (dict, tuple)):
        return [leaf for value in parts for leaf in leaves(value)]
    return [x]


def hashes(x: Batch, y: Array) -> Iterator[tuple[bytes, bytes]]:
    """Yield for each sample the hash of its inputs, and that of its inputs and label."""
    inputs = leaves(x)
    for index in range(len(y)):
        numbers = sha256()
        for leaf in inputs:
            numbers.update(np.ascontiguousarray(leaf[index]).data)
        of_inputs = numbers.digest()
        numbers.update(np.ascontiguousarray(y[index]).data)
        yield of_inputs, numbers.digest()


def leaf_lengths(x: Batch) -> set[int]:
    """Return the lengths of the arrays of a batch, -1 for a number."""
    return {len(leaf) if leaf.ndim else -1 for leaf in leaves(x)}


def fits_a_batch(x: Batch, y: Array) -> bool:
    """Return whether a pair has a label for each of its samples."""
    return y.ndim > 0 and leaf_lengths(x) == {len(y)}


def is_one_hot_sample(x: Batch, y: Array) -> bool:
    """Return whether a pair that fits a batch may be one sample, of as many numbers as classes.

    >>> is_one_hot_sample(np.array([0.3, 0.9]), np.array([0.0, 1.0]))
    True
    >>> is_one_hot_sample(np.array([[0.3], [0.9]]), np.array([0, 1]))
    False
    """
    flat = y.ndim == 1 and len(y) > 1 and all(leaf.ndim == 1 for leaf in leaves(x))
    return bool(flat and ((y == 0) | (y == 1)).all() and (y == 1).sum() == 1)


def together(xs: list[Batch], join: Callable[[list[Array]], Array]) -> Batch:
    """Join the arrays of several batches or samples of the same structure."""
    first = xs[0]
    if isinstance(first, dict):
        return {key: together([x[key] for x in xs], join) for key in first}
    if isinstance(first, tuple):
        return tuple(together(list(parts), join) for parts in zip(*xs, strict=True))
    return join(xs)


def check_inputs(x: Batch, name: str) -> None:
    """Raise :class:`DataError` unless a batch holds finite numbers for n samples, at least one."""
    found = leaves(x)
    lengths = leaf_lengths(x)
    if len(lengths) != 1 or lengths <= {-1, 0}:
        shapes = ", ".join(str(leaf.shape) for leaf in found)
        raise DataError(f"{name}: expected at least one sample, x of shape (n, ...); got {shapes}")
    for leaf in found:
        if leaf.dtype.kind not in "fiub":
            raise DataError(f"{name}: expected x to hold numbers; got {leaf.dtype}")
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise DataError(f"{name}: x holds NaN or infinity; clean the samples first")


def class_indices(y: Array, name: str) -> tuple[Array, bool]:
    """Return class indices ``(n,)``, and whether the labels were one-hot.

    Raises:
        DataError: They are no classes.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        ones = (y == 1).sum(axis=1)
        if not ((y == 0) | (y == 1)).all() or not (ones == 1).all():
            raise DataError(
                f"{name}: expected class labels (n,), or one-hot labels (n, classes) with a single "
                f"1 in each row; got an array of shape {y.shape} that is neither. For another "
                "task, as with several labels a sample, give a score function (score=, in Python)"
            )
        return y.argmax(axis=1), True
    if y.ndim != 1 or y.dtype.kind not in "fiub":
        raise DataError(
            f"{name}: expected class labels as whole numbers of shape (n,); got {y.dtype} of shape "
            f"{y.shape}. {LABELS_ARE_PLACES}"
        )
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise DataError(
            f"{name}: expected class labels as whole numbers; got fractions or NaN. For another "
            "task give a score function (score=, in Python)"
        )
    if (y < 0).any() or (y > _LARGEST_LABEL).any():
        raise DataError(
            f"{name}: expected class labels from 0 up; got {y.min()} to {y.max()}. "
            f"{LABELS_ARE_PLACES}"
        )
    return y.astype(np.intp), False
