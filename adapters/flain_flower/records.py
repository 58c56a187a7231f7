"""Flower's ArrayRecord and the plain arrays that the core purifies."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord

import flain_core as flain
from flain_core.network import Array

__all__ = ["Arrays", "copied", "to_arrays", "to_record"]

Arrays: TypeAlias = "dict[str, Array] | list[Array]"
"""Arrays by name, or in the order of the model."""


def to_arrays(record: ArrayRecord, which: str) -> Arrays:
    """The arrays of a record, read by key.

    Args:
        record: Of a state dict or of named arrays; or of a list, as Keras's ``get_weights()`` gives
            it, which Flower keeps under the keys ``"0"``, ``"1"`` and so on.
        which: What error messages call the record.

    Returns:
        A dict; or a list in the order of its numbers, in whatever order the record holds them.

    Raises:
        WeightsError: It is no record, or an array of it no serialized NumPy array, or damaged.
    """
    if not isinstance(record, ArrayRecord):
        raise flain.WeightsError(
            f"expected {which} to be a flwr.app.ArrayRecord; got a {type(record).__name__}"
        )
    arrays = {name: _to_numpy(array, f"{which}[{name!r}]") for name, array in record.items()}
    return [arrays[str(index)] for index in range(len(arrays))] if _is_list(record) else arrays


def to_record(arrays: Arrays, like: ArrayRecord) -> ArrayRecord:
    """Pack arrays into a record with the keys of another one, in its order."""
    if isinstance(arrays, list):
        arrays = dict(zip(_numbers(arrays), arrays, strict=True))
    return ArrayRecord({name: FlowerArray(np.asarray(arrays[name])) for name in like})


def copied(record: ArrayRecord) -> ArrayRecord:
    """A record that stays as it is, whatever is put into the other one."""
    return ArrayRecord(dict(record))


def _is_list(record: ArrayRecord) -> bool:
    return bool(record) and set(record) == set(_numbers(record))


def _numbers(items: ArrayRecord | Arrays) -> list[str]:
    return [str(index) for index in range(len(items))]


def _to_numpy(array: FlowerArray, name: str) -> Array:
    try:
        plain: Array = array.numpy()
    except Exception as error:
        # Damaged bytes make NumPy raise nearly anything, even MemoryError.
        raise flain.WeightsError(
            f"{name} cannot be read: expected a NumPy array as flwr.app.Array serializes it; "
            f"got {array.stype!r} ({error})"
        ) from error
    return plain
