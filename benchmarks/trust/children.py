"""Reads mutants in child processes that may crash, hang or grow, and tells how each one ended.

A child reads many mutants, one after the other, and is replaced when it dies.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import rmtree
from typing import Literal, TypeAlias

from .folders import new_folder
from .watched import Watched

Files: TypeAlias = Mapping[str, bytes]
"""The files of a mutant by name; the first is read, the others lie beside it."""

Reader: TypeAlias = Callable[[Path], object]
Kind: TypeAlias = Literal["read", "refused", "other", "crashed", "hung", "memory", "side effect"]

KINDS: tuple[Kind, ...] = ("read", "refused", "other", "crashed", "hung", "memory", "side effect")
HARMLESS: frozenset[Kind] = frozenset(("read", "refused"))

OUT = "out"
"""The folder beside a mutant into which its reader may write."""

_TEMPORARY = "temporary"
_SECONDS, _MORE_SECONDS = 10.0, 60.0
_ADDRESSES = 6 * 2**30
_OUT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "Unable to allocate",
    "can't allocate",
    "MemoryError",
)


@dataclass(frozen=True)
class Outcome:
    """The end of one mutant."""

    kind: Kind
    words: str = ""


@dataclass
class Children:
    """One child at a time for one format.

    Attributes:
        read: Reads the mutant at a path; what it raises beside FlainError is a fault.
        most_memory: Bytes that the child may grow by while it reads one mutant.
        allowed: Programs that reading may start.
    """

    read: Reader
    most_memory: int
    allowed: tuple[str, ...] = ()
    _root: Path = field(default_factory=new_folder)
    _child: _Child | None = None

    def outcome(self, files: Files) -> Outcome:
        """Read a mutant; one that seems to hang is read again, with more time and on its own."""
        outcome = self._once(files, _SECONDS)
        return self._once(files, _MORE_SECONDS) if outcome.kind == "hung" else outcome

    def close(self) -> None:
        """End the child and remove its folder."""
        self._end()
        rmtree(self._root, ignore_errors=True)

    def _once(self, files: Files, seconds: float) -> Outcome:
        if self._child is None or not self._child.process.is_alive():
            self._child = _Child(self)
        child = self._child
        folder = self._root / "work"
        rmtree(folder, ignore_errors=True)
        (folder / _TEMPORARY).mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        child.pipe.send_bytes(next(iter(files)).encode())
        if not child.pipe.poll(seconds):
            self._end()
            return Outcome("hung", f"longer than {seconds:g} s")
        try:
            told = json.loads(child.pipe.recv_bytes())
        except EOFError:
            child.process.join()
            code = child.process.exitcode
            self._end()
            return Outcome("crashed", f"exit code {code}")
        left = (*folder.iterdir(), *(folder / _TEMPORARY).iterdir())
        stray = sorted({each.name for each in left} - {*files, OUT, _TEMPORARY})
        if stray and not told["effects"]:
            told["effects"] = [f"leaves {', '.join(stray)}"]
        return _judged(told, self.most_memory)

    def _end(self) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._child.process.join()
            self._child.pipe.close()
            self._child = None


def _judged(told: dict[str, object], most_memory: int) -> Outcome:
    words, effects = str(told["words"]), told["effects"]
    grown = int(str(told["grown"]))
    if effects:
        return Outcome("side effect", str(effects))
    if grown > most_memory or told["starved"]:
        return Outcome("memory", f"{grown / 2**20:.0f} MiB more; {words}")
    kind: Kind = "read" if told["kind"] == "read" else "other"
    return Outcome("refused" if told["kind"] == "refused" else kind, words)


class _Child:
    def __init__(self, owner: Children) -> None:
        self.pipe, theirs = Pipe()
        root = owner._root
        (root / "outside").write_bytes(b"not to be read")
        self.process = get_context("fork").Process(
            target=_work, args=(theirs, self.pipe, owner.read, root, owner.allowed), daemon=True
        )
        self.process.start()
        theirs.close()


def _work(
    pipe: Connection, other_end: Connection, read: Reader, root: Path, allowed: tuple[str, ...]
) -> None:
    other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _status("VmSize") + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    folder = root / "work"
    os.chdir(root)
    tempfile.tempdir = str(folder / _TEMPORARY)
    watched = Watched(folder, allowed)
    with suppress(EOFError):
        while True:
            path = folder / pipe.recv_bytes().decode()
            told = _told(read, path, watched)
            pipe.send_bytes(json.dumps(told).encode())
    os._exit(0)


def _told(read: Reader, path: Path, watched: Watched) -> dict[str, object]:
    from flain_core import FlainError

    _forget_peak()
    before = _status("VmRSS")
    kind, words, starved = "read", "", False
    watched.start()
    try:
        read(path)
    except FlainError as error:
        kind, words, starved = "refused", str(error)[:300], _starved(error)
    # Whatever else comes is what is looked for.
    except BaseException as error:
        kind, words = "other", f"{type(error).__name__}: {error} {_where(error)}"[:600]
        starved = isinstance(error, MemoryError)
    effects = watched.stop()
    return {
        "kind": kind,
        "words": words.encode("utf-8", "replace").decode(),
        "grown": _status("VmHWM") - before,
        "starved": starved,
        "effects": effects,
    }


def _where(error: BaseException) -> str:
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(frames[-4:][::-1])


def _starved(error: BaseException | None) -> bool:
    """Whether it was the lack of memory that made the reader give up."""
    while error is not None:
        if isinstance(error, MemoryError) or any(each in str(error) for each in _OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(name: str) -> int:
    """Return a size of this process in bytes, as the kernel calls it."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


if sys.platform != "linux":
    raise ImportError("mutants are read under limits that only Linux has")
