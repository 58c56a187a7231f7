"""Networks in ``.npz`` files: the arrays, and a description of the operations in JSON.

The entry ``network`` holds ``{"format", "version", "operations", "program"}``. Each operation is
listed once with its fields, arrays by the name of their entry; the program refers to operations by
position, so that a layer used twice stays one layer. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from flain_core.errors import ModelError, WeightsError, listed
from flain_core.network import Array
from flain_core.provenance.purified_before import carry
from flain_core.provenance.zip_member import mark_in, put_mark
from flain_core.storage.files import readable, written_whole
from flain_core.storage.npz import opened

from . import _operations as ops
from ._layers import Conv2d, Dense
from ._program import Operation, Residual, mapped
from .network import Network

_FORMAT = "flain_numpy.Network"
_VERSION = 1
_DESCRIPTION = "network"
_OPERATIONS: dict[str, Callable[..., Operation]] = {
    each.__name__: each
    for each in (
        *(Dense, Conv2d, ops.BatchNorm, ops.ReLU, ops.GELU, ops.Tanh, ops.Sigmoid, ops.Softmax),
        *(ops.AvgPool2d, ops.MaxPool2d, ops.GlobalAvgPool2d, ops.Flatten),
    )
}


def save(
    network: Network,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    mark: str | None = None,
) -> None:
    """Write a network; equal networks give equal bytes. A ``mark`` is a text to carry along.

    Raises:
        ModelError: The network contains an operation that is not this package's own.
        OutputError: The file cannot be written, or exists already.

    >>> import tempfile
    >>> from flain_numpy import Dense
    >>> network = Network([Dense("fc1", np.array([[1.0, 2.0, 3.0]]))])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(network, f"{folder}/network.npz")
    ...     load(f"{folder}/network.npz")
    Network(fc1 1×3)
    """
    entries: dict[str, Any] = {}
    operations: list[dict[str, Any]] = []
    positions: dict[int, int] = {}

    def position(operation: Operation) -> int:
        if id(operation) not in positions:
            positions[id(operation)] = len(operations)
            operations.append(_described(operation, len(operations), entries))
        return positions[id(operation)]

    description = {
        "format": _FORMAT,
        "version": _VERSION,
        "program": mapped(network.operations, position),
        "operations": operations,
    }
    entries = {_DESCRIPTION: np.array(json.dumps(description, default=vars)), **entries}
    with written_whole(path, overwrite=overwrite) as scratch, scratch.open("wb") as file:
        np.savez(file, **entries)
        file.close()
        if mark is not None:
            put_mark(scratch, mark)


def load(path: str | os.PathLike[str]) -> Network:
    """Read a network that :func:`save` wrote.

    Raises:
        WeightsError: The file does not exist, is damaged, or holds something else.

    >>> load("/nowhere/at/all.npz")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: cannot read /nowhere/at/all.npz: there is no such file
    """
    source = readable(path)
    try:
        with opened(source, error=WeightsError) as entries:
            network = _network(entries)
        carry(network, mark_in(source))
    # On damaged bytes the parsers raise anything, from BadZipFile to TokenError and SystemError.
    except Exception as error:
        raise WeightsError(
            f"cannot read {source}: expected a network that flain_numpy.save wrote, in format "
            f"version {_VERSION}; found {type(error).__name__}: {error}; give the "
            "file of a network, or save it again"
        ) from error
    return network


def _described(operation: Any, position: int, entries: dict[str, Array]) -> dict[str, Any]:
    """Describe an operation in JSON's terms; its arrays go to ``entries``."""
    name = type(operation).__name__
    if _OPERATIONS.get(name) is not type(operation):
        raise ModelError(
            f"cannot save {operation!r}: expected flain_numpy's own operations only; replace "
            "it by one of them, or build the network in code where it is needed"
        )
    described: dict[str, Any] = {"operation": name}
    for field in (field for field in fields(operation) if field.init):
        value = getattr(operation, field.name)
        if isinstance(value, np.ndarray):
            entry = f"{position}.{field.name}"
            entries[entry] = value
            value = {"array": entry}
        described[field.name] = value
    return described


def _network(entries: Mapping[str, Array]) -> Network:
    if _DESCRIPTION not in entries:
        raise ValueError(f"no entry {_DESCRIPTION!r} among {listed(sorted(entries))}")

    def restored(found: dict[str, Any]) -> Any:
        if found.keys() == {"array"}:
            return entries[found["array"]]
        return Residual(**found) if found.keys() == {"branch", "shortcut"} else found

    description = json.loads(entries[_DESCRIPTION].item(), object_hook=restored)
    found = description["format"], description["version"]
    if found != (_FORMAT, _VERSION):
        raise ValueError(f"{found[0]} version {found[1]}")
    operations = [_operation(**described) for described in description["operations"]]
    return Network(mapped(description["program"], operations.__getitem__))


def _operation(operation: str, **values: Any) -> Operation:
    if operation not in _OPERATIONS:
        raise ValueError(f"an unknown operation {operation!r}")
    # JSON has no tuples.
    given = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
    return _OPERATIONS[operation](**given)
