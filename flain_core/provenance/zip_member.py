"""A text in a zip archive, beside what a framework keeps there (.npz, .keras, .pt)."""

from __future__ import annotations

import os
from zipfile import BadZipFile, ZipFile, ZipInfo

from flain_core.storage.archives import is_archive

__all__ = ["add_member", "read_member"]


def add_member(path: str | os.PathLike[str], name: str, text: str) -> None:
    """Add a member to an archive; equal archives and texts give equal bytes."""
    with ZipFile(path, "a") as archive:
        archive.writestr(ZipInfo(_beside_the_first(archive, name)), text)


def read_member(path: str | os.PathLike[str], name: str, most: int) -> bytes | None:
    """Return a member of an archive, or its first ``most + 1`` bytes.

    None where there is none; nothing, ``b""``, of one that cannot be read.
    """
    if not is_archive(path):
        return None
    try:
        with ZipFile(path) as archive, archive.open(_beside_the_first(archive, name)) as member:
            return member.read(most + 1)
    except KeyError:
        return None
    except (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError):
        return b""


def _beside_the_first(archive: ZipFile, name: str) -> str:
    """PyTorch reads an archive only if all its members lie in the same folder."""
    folder, slash, _ = next(iter(archive.namelist()), "").partition("/")
    return f"{folder}{slash}{name}" if slash else name
