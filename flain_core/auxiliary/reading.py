"""Reads arrays, loaders, datasets and .npz files: what they hold of inputs and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from flain_core.errors import DataError, listed
from flain_core.network import Array, Batch

from .items import (
    array_of,
    each_leaf,
    fits_a_batch,
    is_one_hot_sample,
    leaves,
    pair_of,
    together,
)
from .pairs import Pairs
from .stream import SampleStream


def read(data: Any, name: str, most: int | None) -> tuple[Batch, Array] | SampleStream:
    """Return the inputs and labels that data hold, or a stream of more inputs than may be kept.

    Args:
        data: As :meth:`~flain_core.auxiliary.samples.Samples.of` takes it.
        name: What error messages call the data.
        most: In bytes; None keeps all inputs.

    Raises:
        DataError: The data cannot be read.
    """
    if isinstance(data, (str, os.PathLike)):
        return _read_npz(Path(data), name)
    if isinstance(data, tuple) and len(data) == 2:
        return each_leaf(data[0], array_of), array_of(data[1])
    count = getattr(data, "num_batches", None)
    if count is not None and hasattr(data, "__getitem__"):
        # Items of Keras's PyDataset are batches, and iterating over it does not end by itself.
        return _gathered(Pairs(data, name, count), most)
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
        return _gathered(Pairs(data, name, len(data)), most, batches=False)
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
            return SampleStream(pairs, chain(_taken_out(kept), giving), batches)
    if not kept:
        raise DataError(
            f"{pairs.name}: expected at least one sample; the loader or dataset is empty"
        )
    if batches is None:
        batches = all(fits_a_batch(*pair) for pair in kept)
        batches = batches and not all(is_one_hot_sample(*pair) for pair in kept)
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
