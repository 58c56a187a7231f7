"""Writes to disks that are full and to folders that are read-only, and reads what is no file."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from tempfile import mkdtemp

from .folders import folder_for_now
from .writers import WRITERS, Writer

_NOBODY = 65534
_REFUSED, _ELSE = 7, 8


@dataclass(frozen=True)
class Tried:
    """One thing that was tried, and what is wrong with what came of it; nothing if all is well."""

    what: str
    format: str
    fault: str = ""


def full_disks(names: list[str] | None = None) -> list[Tried]:
    """Write over a file on a disk that is full."""
    with _small_disk() as (folder, how):
        return [_on_full(name, folder, how) for name in names or list(WRITERS)]


def read_only_folders(names: list[str] | None = None) -> list[Tried]:
    """Write into a folder into which this user may not write."""
    return [_read_only(name) for name in names or list(WRITERS)]


def no_files() -> list[Tried]:
    """Give the command a pipe as data, and a factory that ends the process."""
    with folder_for_now() as folder:
        os.mkfifo(folder / "pipe.npz")
        (folder / "leaves.py").write_text("import sys\n\ndef make():\n    sys.exit(0)\n")
        (folder / "w.pt").write_bytes(b"")
        pipe, factory = str(folder / "pipe.npz"), "leaves:make"
        return [
            _refused("a pipe as data", folder, "demo-less", pipe),
            _refused("a pipe as a model", folder, "layers", pipe),
            _refused("a factory that exits", folder, "layers", factory),
        ]


def _refused(what: str, folder: Path, command: str, name: str) -> Tried:
    from .interrupts import write_inputs

    if command == "demo-less":
        write_inputs(folder)
        given = [folder / "final.npz", "--initial", folder / "initial.npz", "--data", name]
        words = ["purify", *given, "-o", folder / "out.npz"]
    else:
        words = [command, name]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "flain_cli", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"},
        )
    except subprocess.TimeoutExpired:
        return Tried(what, "flain", "it waits for ever")
    lines = ran.stderr.splitlines()
    well = ran.returncode == 1 and lines and lines[0].startswith("error: ") and not ran.stdout
    return Tried(what, "flain", "" if well and "Traceback" not in ran.stderr else ran.stderr[-500:])


def _on_full(name: str, folder: Path, how: str) -> Tried:
    writer = WRITERS[name]()
    path = folder / writer.name
    writer.write(path, 1.0, False)
    before = sorted(os.listdir(folder))
    if how == "disk":
        _fill(folder / "filler")
    fault = _in_child(writer, path, limit=how == "limit")
    (folder / "filler").unlink(missing_ok=True)
    after = sorted(os.listdir(folder))
    if not fault and after != before:
        fault = f"{sorted(set(after) ^ set(before))} appeared or went"
    if not fault and writer.number(path) != 1.0:
        fault = "the old file is not as it was"
    for each in folder.iterdir():
        each.unlink()
    return Tried("a full disk", name, fault)


def _read_only(name: str) -> Tried:
    with folder_for_now() as folder:
        writer = WRITERS[name]()
        inside = folder / "inside"
        inside.mkdir()
        path = inside / writer.name
        writer.write(path, 1.0, False)
        folder.chmod(0o755)
        inside.chmod(0o555)
        before = sorted(os.listdir(inside))
        fault = _in_child(writer, path, as_nobody=os.getuid() == 0)
        if not fault and (sorted(os.listdir(inside)) != before or writer.number(path) != 1.0):
            fault = "the folder is not as it was"
        inside.chmod(0o755)
        return Tried("a read-only folder", name, fault)


def _in_child(writer: Writer, path: Path, *, limit: bool = False, as_nobody: bool = False) -> str:
    """Write in a child that cannot, and return what is wrong with how it ended."""
    from flain_core import OutputError

    child = os.fork()
    if not child:
        code = 1
        try:
            if limit:
                # Files may not grow beyond that, as on a disk that is full.
                resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
            if as_nobody:
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            writer.write(path, 2.0, True)
            code = 0
        except OutputError as error:
            code = _REFUSED if str(path.parent) in str(error) else _ELSE
        except RuntimeError as error:
            # The command says it with its exit code.
            code = _REFUSED if "ended with 1" in str(error) else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == _REFUSED else f"expected an OutputError that names it; code {code}"


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@contextmanager
def _small_disk() -> Iterator[tuple[Path, str]]:
    """Yield a folder on a disk of a megabyte, or any folder where none can be had."""
    folder = Path(mkdtemp(prefix="trust-"))
    mount, umount = which("mount"), which("umount")
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        ran = mount and subprocess.run([mount, *options], capture_output=True, check=False)
        mounted = bool(umount and ran and not ran.returncode)
    except OSError:
        mounted = False
    try:
        yield folder, "disk" if mounted else "limit"
    finally:
        if mounted and umount:
            subprocess.run([umount, str(folder)], check=False)
        folder.rmdir()
