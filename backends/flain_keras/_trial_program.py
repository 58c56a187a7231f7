"""Reads all of an HDF5 file, or of those in an archive; a program that _trial.py starts.

It leads to no other file, and ends with :data:`TOO_LARGE` where it would need more than it may:
many texts of various lengths can be one and the same in the file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

TOO_LARGE = 9
"""Exit code: what the file holds takes more memory than it may."""

_NUMBERS = "fiub"
_OTHER_USES = 2**28
_NO_MEMORY = re.compile("alloc|out of memory", re.IGNORECASE)


def main(paths: str, most: str, source: str) -> None:
    """Read a file, with the modules of some folders, and no more than some bytes of it at once."""
    sys.path[:] = json.loads(paths)
    import h5py

    _limit_memory(int(most))
    try:
        for content in _contents(Path(source)):
            with h5py.File(content, "r") as file:
                _read(file, int(most), h5py)
    except MemoryError:
        sys.exit(TOO_LARGE)


def _limit_memory(most: int) -> None:
    # Systems without such limits, or that do not say how much is used, have to do without.
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        # A file out of an archive, and what is read of it, are there at once.
        limit = pages * resource.getpagesize() + 2 * most + _OTHER_USES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _unless_too_large() -> Iterator[None]:
    """Raise MemoryError, whatever h5py makes of it, and nothing else.

    What cannot be read for other reasons is told by whoever reads it for good.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if _NO_MEMORY.search(str(error)):
            raise MemoryError from error


def _contents(source: Path) -> Iterator[Any]:
    from zipfile import ZipFile

    if source.suffix == ".h5":
        yield source
        return
    with ZipFile(source) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".h5"):
                yield BytesIO(archive.read(member))


def _read(file: Any, most: int, h5py: Any) -> None:
    seen, groups = set[Any](), [file["/"]]
    _read_attributes(groups[0], most)
    while groups:
        group = groups.pop()
        for name in group:
            with _unless_too_large():
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                found = group[name]
                if found in seen:
                    continue
                seen.add(found)
                _read_attributes(found, most)
                if isinstance(found, h5py.Group):
                    groups.append(found)
                elif isinstance(found, h5py.Dataset):
                    _read_dataset(found, most)


def _read_attributes(holder: Any, most: int) -> None:
    for name in holder.attrs:
        with _unless_too_large():
            kept = holder.attrs.get_id(name)
            if kept.get_storage_size() <= most:
                holder.attrs[name]


def _read_dataset(dataset: Any, most: int) -> None:
    if dataset.external or dataset.is_virtual:
        return
    if dataset.chunks is None and dataset.dtype.kind in _NUMBERS and dataset.size:
        # Plain numbers, one behind the other: one of them stands for all.
        dataset[(0,) * dataset.ndim]
    elif (dataset.size or 0) * dataset.dtype.itemsize <= most:
        dataset[()]


if __name__ == "__main__":
    main(*sys.argv[1:])
