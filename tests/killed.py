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

    Returns:
        False if the work ended before it got there.
    """
    child = os.fork()
    if not child:
        _become(event, str(folder.resolve()), work)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _become(event: int, folder: str, work: Callable[[], object]) -> None:
    seen = 0

    def watch(name: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in _EVENTS and any(str(each).startswith(folder) for each in given):
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    code = 1
    try:
        sys.addaudithook(watch)
        work()
        code = 0
    finally:
        os._exit(code)
