"""Keeps the models of a run in files, so that no failure after training loses them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord

from flain_core import FlainError, OutputError, WeightsError
from flain_core.storage import npz
from flain_core.storage.files import readable, written_whole

USUAL = "purification"
"""The folder where nothing else is said, in the folder in which the server app runs."""


class Kept:
    """A folder of one run: ``initial.npz``, ``trained.npz``, ``purified.npz``, ``report.json``.

    Args:
        folder: Where the run's folder is made, under the time of its start. None takes
            :data:`USUAL`, and the system's folder for temporary files if that cannot be written.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        if folder is not None:
            self.path = _new_folder(Path(folder))
            return
        try:
            self.path = _new_folder(Path(USUAL))
        except OutputError:
            self.path = _new_folder(_spare())

    def write(self, name: str, arrays: ArrayRecord) -> Path:
        """Write arrays into the run's folder, as ``name.npz``; return the file.

        Raises:
            OutputError: The disk is full, or the folder is gone.
        """
        return save_arrays(arrays, self.path / f"{name}.npz")

    def write_anywhere(self, name: str, arrays: ArrayRecord) -> Path:
        """Write arrays into the run's folder, or else into one of the system's temporary files.

        That is the run's folder from then on.

        Raises:
            OutputError: Neither can be done; it says why the first cannot.
        """
        try:
            return self.write(name, arrays)
        except OutputError as error:
            try:
                spare = _new_folder(_spare())
                where = save_arrays(arrays, spare / f"{name}.npz")
            except OutputError:
                raise error from None
            self.path = spare
            return where


def save_arrays(arrays: ArrayRecord, path: Path) -> Path:
    """Write a record's arrays as an ``.npz`` file, whole or not at all.

    What Flower has serialized goes into the file as it is, so that not even arrays that nobody here
    can read are lost.

    Raises:
        OutputError: The file cannot be written.
    """
    with written_whole(path) as scratch, ZipFile(scratch, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            member = ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as stream:
                stream.write(array.data)
    return path.absolute()


def load_arrays(path: str | os.PathLike[str]) -> ArrayRecord:
    """Read arrays that a run kept: ``initial.npz``, ``trained.npz`` or ``purified.npz``.

    Args:
        path: The file. Nothing in it is unpickled.

    Returns:
        The arrays by name, in their order, for :func:`flain_flower.purify` or for
        ``to_torch_state_dict()``.

    Raises:
        WeightsError: There is no such file, or it cannot be read.

    Example:
        >>> load_arrays("purification/none/trained.npz")
        Traceback (most recent call last):
            ...
        flain_core.errors.WeightsError: cannot read purification/none/trained.npz: there is no such
        file
    """
    path = readable(path)
    try:
        with npz.opened(path, error=WeightsError) as arrays:
            return ArrayRecord({name: FlowerArray(array) for name, array in arrays.items()})
    except FlainError:
        raise
    except Exception as error:
        # A damaged file makes zipfile, zlib and NumPy raise nearly anything.
        raise WeightsError(
            f"cannot read {path}: expected arrays that a run kept ({type(error).__name__}: {error})"
        ) from error


def _spare() -> Path:
    return Path(tempfile.gettempdir()) / f"flain-{USUAL}"


def _new_folder(parent: Path) -> Path:
    """Make a folder named after the time, and return it."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
    names: Iterable[str] = chain([now], (f"{now}-{number}" for number in count(2)))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                (parent / name).mkdir()
            except FileExistsError:
                continue
            return (parent / name).absolute()
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot keep the models of the run in {parent}: {error}; give Purify(folder=...) a "
            "folder that can be written"
        ) from error
    raise AssertionError("there are infinitely many names")
