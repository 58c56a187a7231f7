"""Looks at what a ZIP archive declares before anything in it is unpacked."""

from __future__ import annotations

import os

from flain_core.errors import WeightsError

from .limits import check_memory


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a file looks like a ZIP archive, even a damaged one."""
    from zipfile import BadZipFile, is_zipfile

    try:
        return is_zipfile(path)
    # Of an archive that says it lies on several disks.
    except BadZipFile:
        return True


def check_unpacked(path: str | os.PathLike[str]) -> None:
    """Raise :class:`WeightsError` if the members of an archive would take too much memory together.

    >>> check_unpacked(__file__)
    """
    from zipfile import BadZipFile, ZipFile

    if not is_archive(path):
        return
    try:
        with ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError) as broken:
        raise WeightsError(f"cannot read {os.fspath(path)}: it is damaged ({broken})") from broken
    what = os.fspath(path)
    check_memory(declared, size=os.path.getsize(path), what=what, error=WeightsError)
