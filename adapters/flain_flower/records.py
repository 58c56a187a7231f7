"""Flower's ArrayRecord and the plain arrays that the core purifies."""

from __future__ import annotations

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord

import flain_core as flain
from flain_core.network import Array


def to_arrays(record: ArrayRecord, which: str) -> dict[str, Array]:
    """Read the arrays of a record by key.

    Args:
        record: The record of a state dict, of named arrays, or of a list.
        which: Name of the record in error messages.

    Raises:
        WeightsError: It is no record, or an array of it no serialized NumPy array, or damaged.
    """
    if not isinstance(record, ArrayRecord):
        raise flain.WeightsError(
            f"expected {which} to be a flwr.app.ArrayRecord; got a {type(record).__name__}"
        )
    return {name: _to_numpy(array, f"{which}[{name!r}]") for name, array in record.items()}


def as_given(arrays: dict[str, Array]) -> dict[str, Array] | list[Array]:
    """Return the arrays by name, or a list if Flower was given one.

    Flower keeps a list, as Keras's ``get_weights()`` gives it, under the keys ``"0"``, ``"1"`` and
    so on, in whatever order.

    >>> as_given({"1": np.ones(1), "0": np.zeros(2)})
    [array([0., 0.]), array([1.])]
    """
    numbers = [str(index) for index in range(len(arrays))]
    return (
        [arrays[each] for each in numbers] if arrays and arrays.keys() == set(numbers) else arrays
    )


def to_record(arrays: dict[str, Array] | list[Array], like: ArrayRecord) -> ArrayRecord:
    """Pack arrays into a record with the keys of another one, in its order."""
    if isinstance(arrays, list):
        arrays = {str(index): each for index, each in enumerate(arrays)}
    return ArrayRecord({name: FlowerArray(np.asarray(arrays[name])) for name in like})


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
