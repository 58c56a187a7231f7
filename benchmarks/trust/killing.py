"""Kills a child process at each thing that it does to files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_EVENTS = frozenset(
    ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown")
)


def killed_at(event: int, folder: Path, work: Callable[[], object]) -> bool:
    """Run some work in a child that is killed before its n-th event in a folder.

    An event is what Python tells auditors that it does to a file there; and each sync of a file,
    before it and after it.

    Returns:
        False if the work ended before it got there.
    """
    child = os.fork()
    if not child:
        _become(event, str(folder.resolve()), work)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"expected the work to end well, or to be killed; it ended with {code}")
    return code != 0


def _become(event: int, folder: str, work: Callable[[], object]) -> None:
    seen = 0

    def happened() -> None:
        nonlocal seen
        if seen == event:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def watch(name: str, given: tuple[Any, ...]) -> None:
        if name in _EVENTS and any(str(each).startswith(folder) for each in given):
            happened()

    def synced(handle: Any) -> None:
        happened()
        sync(handle)
        happened()

    code, sync = 1, os.fsync
    try:
        sys.addaudithook(watch)
        vars(os)["fsync"] = synced
        work()
        code = 0
    finally:
        os._exit(code)
