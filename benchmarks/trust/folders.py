"""Folders for what is tried out, in memory where that is possible: files are written and synced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

_IN_MEMORY = "/dev/shm"  # noqa: S108


def new_folder() -> Path:
    """Return a new folder that its caller removes."""
    return Path(mkdtemp(prefix="trust-", dir=_IN_MEMORY if os.path.isdir(_IN_MEMORY) else None))


@contextmanager
def folder_for_now() -> Iterator[Path]:
    """Yield a new folder, and remove it in the end."""
    folder = new_folder()
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
