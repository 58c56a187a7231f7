"""Notices what reading a file does beside reading it: files, sockets, programs, unpickling.

What Python does is told by its audit events; what libraries in C do to files is told by inotify.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ALWAYS = frozenset(
    (
        *("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "os.system"),
        *(
            "subprocess.Popen",
            "os.exec",
            "os.posix_spawn",
            "os.fork",
            "os.forkpty",
            "pickle.find_class",
        ),
        *("urllib.Request", "ftplib.connect", "smtplib.connect", "webbrowser.open", "code.__new__"),
    )
)
_OF_FILES = frozenset(("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"))
_OPENED, _CHANGED = 0x20, 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x4
_NONBLOCK = 0o4000


class Watched:
    """Collects side effects outside a folder, in the process that makes it.

    Args:
        folder: Where files may be written.
        allowed: Programs that may be started, by what their arguments begin with.
    """

    def __init__(self, folder: Path, allowed: tuple[str, ...] = ()) -> None:
        self._inside = str(folder.resolve())
        self._allowed = allowed
        self._seen: list[str] = []
        self._on = False
        sys.addaudithook(self._hook)
        self._inotify = _inotify(folder.parent)

    def start(self) -> None:
        """Forget what was seen, and look."""
        self._seen.clear()
        self._touched()
        self._on = True

    def stop(self) -> list[str]:
        """Return what was seen since, each once, and look no more."""
        self._on = False
        return list(dict.fromkeys((*self._seen, *self._touched())))

    def _hook(self, name: str, given: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if name in _ALWAYS:
            if not (name == "subprocess.Popen" and self._may_start(given)):
                self._seen.append(f"{name} {given!r:.80}")
        elif name == "open":
            path, _, flags = given
            if isinstance(flags, int) and flags & _WRITES and not self._is_inside(path):
                self._seen.append(f"writes {path!r:.80}")
        elif name in _OF_FILES and not all(map(self._is_inside, _full(given))):
            self._seen.append(f"{name} {given!r:.80}")

    def _may_start(self, given: tuple[Any, ...]) -> bool:
        told = " ".join(map(str, given[1]))
        return any(each in told for each in self._allowed)

    def _is_inside(self, path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        real = os.path.realpath(os.fsdecode(path))
        return real.startswith(self._inside) or real == os.devnull

    def _touched(self) -> list[str]:
        """Return what happened to files beside the folder, reading included."""
        if self._inotify is None:
            return []
        try:
            events = os.read(self._inotify, 2**16)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, at)
            name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode(errors="replace")
            is_folder = mask & 0x40000000
            if name and not is_folder:
                found.append(f"{'opens' if mask & _OPENED else 'changes'} ../{name}")
            at += 16 + length
        return found


def _full(given: tuple[Any, ...]) -> list[str]:
    """Return the paths that an event is about, those beside an open folder too."""
    handle = given[-1]
    beside = isinstance(handle, int) and handle > 2
    folder = os.readlink(f"/proc/self/fd/{handle}") if beside else ""
    names = [os.fsdecode(each) for each in given if isinstance(each, (str, bytes, os.PathLike))]
    return [os.path.join(folder, name) for name in names]


def _inotify(folder: Path) -> int | None:
    """Watch the files in a folder; None where the system cannot."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        handle = library.inotify_init1(_NONBLOCK)
        if (
            handle < 0
            or library.inotify_add_watch(handle, os.fsencode(folder), _OPENED | _CHANGED) < 0
        ):
            return None
    except (AttributeError, OSError):
        return None
    return int(handle)
