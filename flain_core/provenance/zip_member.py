"""The mark in a zip archive, beside what a framework keeps there (.npz, .keras, .pt)."""

from __future__ import annotations

import os
from zipfile import BadZipFile, ZipFile, ZipInfo

from flain_core.storage.archives import is_archive

from .mark import KEY, MOST_BYTES


def put_mark(path: str | os.PathLike[str], mark: str) -> None:
    """Add a mark to an archive; equal archives and marks give equal bytes."""
    with ZipFile(path, "a") as archive:
        archive.writestr(ZipInfo(_place(archive)), mark)


def mark_in(path: str | os.PathLike[str]) -> bytes | None:
    """Return the mark in an archive, or as much of it as shows that it is too long.

    None where there is none; nothing, ``b""``, of one that cannot be read.
    """
    if not is_archive(path):
        return None
    try:
        with ZipFile(path) as archive, archive.open(_place(archive)) as member:
            return member.read(MOST_BYTES + 1)
    except KeyError:
        return None
    except (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError):
        return b""


def _place(archive: ZipFile) -> str:
    """PyTorch reads an archive only if all its members lie in the same folder."""
    folder, slash, _ = next(iter(archive.namelist()), "").partition("/")
    return f"{folder}{slash}{KEY}" if slash else KEY
