"""Reads arrays from ``.npz`` files, and decides on what a file declares before it allocates.

A member is read when it is asked for, so that one nobody needs costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import IO, TYPE_CHECKING

import numpy as np

from flain_core.errors import FlainError
from flain_core.network import Array

from .limits import check_memory

if TYPE_CHECKING:
    from zipfile import ZipFile

_SUFFIX = ".npy"


class Arrays(Mapping[str, Array]):
    """The arrays of an open file, by name; each is read once, at the first demand."""

    def __init__(self, archive: ZipFile, path: str, size: int, error: type[FlainError]) -> None:
        self._archive, self._path, self._size, self._error = archive, path, size, error
        self._members = {
            member.filename.removesuffix(_SUFFIX): member for member in archive.infolist()
        }
        self._read: dict[str, Array] = {}
        self._taken = 0

    def __getitem__(self, name: str) -> Array:
        if name not in self._read:
            self._read[name] = self._array(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _array(self, name: str) -> Array:
        member = self._members[name]
        self._taken += member.file_size
        check_memory(self._taken, size=self._size, what=self._path, error=self._error)
        with self._archive.open(member) as stream:
            check_declared(stream, member.file_size, name)
        # Opened again, not rewound: after that the checksum is not looked at any more.
        with self._archive.open(member) as stream:
            array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        return array


@contextmanager
def opened(path: str | os.PathLike[str], *, error: type[FlainError]) -> Iterator[Arrays]:
    """Open an ``.npz`` file.

    On damaged bytes, zipfile, zlib and NumPy raise nearly anything, then or when an array is read.

    Args:
        path: A regular file.
        error: What to raise where the file asks for too much memory.
    """
    from zipfile import ZipFile

    with open(path, "rb") as file, ZipFile(file) as archive:
        yield Arrays(archive, os.fspath(path), os.fstat(file.fileno()).st_size, error)


def check_declared(stream: IO[bytes], size: int, name: str) -> None:
    """Raise ValueError if an array in ``.npy`` form does not hold as many numbers as it declares.

    NumPy reserves memory for all that is declared. What is no such array makes it raise anything.

    Args:
        stream: The array; it is read up to where the numbers begin.
        size: Bytes in it.
        name: A name for the message.

    >>> from io import BytesIO
    >>> np.save(stream := BytesIO(), np.zeros(3))
    >>> check_declared(BytesIO(stream.getvalue()[:-1]), stream.tell() - 1, "x")
    Traceback (most recent call last):
        ...
    ValueError: 'x' does not hold as many numbers as it declares
    """
    declared = _declared(stream)
    if declared is not None and declared != size - stream.tell():
        raise ValueError(f"{name!r} does not hold as many numbers as it declares")


def _declared(stream: IO[bytes]) -> int | None:
    """Return how many bytes an array declares, None for objects, and stop where they begin."""
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return None if dtype.hasobject else dtype.itemsize * prod(shape)
