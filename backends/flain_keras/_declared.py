"""Looks at what a file declares before Keras builds anything of it.

HDF5 files can declare gigabytes in a few bytes, and lead to other files; no model that Keras saved
does.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import h5py

from flain_core.errors import WeightsError
from flain_core.storage.archives import check_unpacked
from flain_core.storage.limits import check_memory

from ._trial import check_readable

_HDF5 = ".h5"


def check_declared(source: Path) -> None:
    """Raise :class:`WeightsError` if a model asks for too much memory, or for other files.

    On damaged files, zipfile and h5py raise anything.
    """
    check_unpacked(source)
    check_readable(source)
    if source.suffix == _HDF5:
        with h5py.File(source, "r") as file:
            _check(file, source, source.stat().st_size)
        return
    with ZipFile(source) as archive:
        for member in archive.infolist():
            if member.filename.endswith(_HDF5):
                with h5py.File(BytesIO(archive.read(member)), "r") as file:
                    _check(file, source, source.stat().st_size)


def _check(file: h5py.File, source: Path, size: int) -> None:
    declared, seen = 0, set[Any]()
    groups: list[Any] = [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _leads_elsewhere(source)
            # Other links lead to what is found by its own name, or to nothing.
            found = group[name] if isinstance(link, h5py.HardLink) else None
            # A group can be in itself.
            if isinstance(found, (h5py.Group, h5py.Dataset)) and found not in seen:
                seen.add(found)
                if isinstance(found, h5py.Group):
                    groups.append(found)
                    continue
                if found.external or found.is_virtual:
                    raise _leads_elsewhere(source)
                declared += (found.size or 0) * found.dtype.itemsize
                check_memory(declared, size=size, what=str(source), error=WeightsError)


def _leads_elsewhere(source: Path) -> WeightsError:
    return WeightsError(
        f"cannot read {source}: some of it lies in other files, which are never read; save the "
        "whole model again with model.save"
    )
