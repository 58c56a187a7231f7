"""Folders for files that are being written, and for nothing else.

Each is locked as long as its run lives. What a killed run left is therefore known by its name and
its free lock, and the next run that writes beside it removes it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

try:
    import fcntl
except ImportError:  # pragma: no cover
    # Windows has other locks; there, what a killed run left stays.
    fcntl = None  # type: ignore[assignment]

_PREFIX = ".flain-"


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield a new folder inside the folder ``beside``, which nobody else may enter.

    It is removed in the end, also after Ctrl-C; those of killed runs are removed first.
    """
    remove_abandoned(beside)
    folder = lock = None
    try:
        with _ctrl_c_waits():
            folder, lock = _new_folder(beside)
        yield folder
    finally:
        with _ctrl_c_waits():
            if folder is not None:
                rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def remove_abandoned(beside: Path) -> None:
    """Remove the scratch folders that killed runs left in a folder."""
    if fcntl is None:  # pragma: no cover
        return
    with suppress(OSError), os.scandir(beside) as entries:
        left = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
        ]
        for folder in left:
            with suppress(OSError):
                lock = os.open(folder, os.O_RDONLY)
                try:
                    _lock(lock)
                    rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C do what it does after a few lines, and not between them."""
    handler = signal.getsignal(signal.SIGINT)
    # Python handles signals in the main thread alone, and cannot put back what C code set.
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _new_folder(beside: Path) -> tuple[Path, int | None]:
    from tempfile import mkdtemp

    while True:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=beside))
        if fcntl is None:  # pragma: no cover
            return folder, None
        # Between the two lines another run may have taken it for an abandoned one.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            if _locked(lock, folder):
                return folder, lock
            os.close(lock)


def _locked(lock: int, folder: Path) -> bool:
    try:
        _lock(lock)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems know no locks; nobody can remove the folder there either.
        return True
    return folder.exists()


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
