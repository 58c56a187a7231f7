"""Writes files whole or not at all, and never over something that was there before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flain_core.errors import OutputError, WeightsError

from .scratch import scratch_folder

# Bytes of a file that are hashed at once.
_PART = 2**20


def readable(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if there is a file; raise :class:`WeightsError` if there is not.

    >>> readable("/nowhere/at/all.npz")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: cannot read /nowhere/at/all.npz: there is no such file
    """
    if not isinstance(path, (str, os.PathLike)):
        raise WeightsError(f"expected the path of a file, a string or a Path; got {path!r}")
    source = Path(path)
    if not os.path.isfile(source):
        # A pipe would block for ever.
        there = os.path.exists(source)
        told = "expected a regular file" if there else "there is no such file"
        raise WeightsError(f"cannot read {source}: {told}")
    return source


def target_of(path: object) -> Path:
    """Return where a file is to go; raise :class:`OutputError` for what names no file.

    >>> target_of(3)
    Traceback (most recent call last):
        ...
    flain_core.errors.OutputError: expected the path of a file to write, a string or a Path; got 3
    """
    if not isinstance(path, (str, os.PathLike)):
        raise OutputError(f"expected the path of a file to write, a string or a Path; got {path!r}")
    return Path(path)


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` if a file can be written there; raise :class:`OutputError` before any work.

    >>> check_writable("/nowhere/at/all.npz")
    Traceback (most recent call last):
        ...
    flain_core.errors.OutputError: cannot write /nowhere/at/all.npz: its folder does not exist
    """
    try:
        # The file itself: writing to a link means writing to what it leads to.
        target = Path(os.path.realpath(target_of(path)))
        with suppress(FileNotFoundError):
            os.lstat(target)
    except FileNotFoundError as error:
        raise OutputError(
            f"cannot write {os.fspath(path)!r}: the current folder does not exist any more; give "
            "an absolute path"
        ) from error
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {os.fspath(path)!r}: {error}") from error
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; name a file inside it")
    if target.exists() and not target.is_file():
        # Moving a file there would put it in place of a device or a pipe.
        raise OutputError(f"cannot write {target}: it is no regular file; choose another name")
    if target.exists() and not overwrite:
        raise OutputError(
            f"cannot write {target}: it exists already; choose another name, remove it, "
            "or say overwrite=True (--overwrite on the command line)"
        )
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: its folder does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {target}: its folder is not writable")
    return target


def check_no_input(path: str | os.PathLike[str], inputs: Iterable[object]) -> None:
    """Raise :class:`OutputError` if ``path`` is one of the files that were read.

    Args:
        path: Where a file is to be written.
        inputs: What was read; whatever is no path of a file does not count.
    """
    path = target_of(path)
    for each in inputs:
        if isinstance(each, (str, os.PathLike)) and same_file(path, each):
            raise OutputError(
                f"cannot write {os.fspath(path)}: it is one of the files that were read, and the "
                "model before cannot be had again; choose another name (overwriting does not cover "
                "this: move the new file there yourself, if you mean it)"
            )


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two names are one file, over links too; a file need not exist.

    >>> same_file("model.onnx", "./model.onnx"), same_file("model.onnx", "other.onnx")
    (True, False)
    """
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


@contextmanager
def written_whole(
    path: str | os.PathLike[str], *, overwrite: bool = False, like: Path | None = None
) -> Iterator[Path]:
    """Yield a scratch file to write; move it to ``path`` if the block ends well, else remove it.

    The scratch file has the same name in a folder beside ``path``, so that writers which look at
    the suffix work and the move is one atomic step. It is on the disk before it is moved. A file
    that is replaced passes on its mode, and its owner where that is allowed; so does the file
    ``like``, if it is there, to one that belongs to it.
    """
    target = check_writable(path, overwrite=overwrite)
    try:
        with scratch_folder(target.parent) as folder:
            scratch = folder / target.name
            yield scratch
            _take_over(scratch, like or target)
            _move(scratch, target, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def hashes(sources: Iterable[object]) -> dict[str, str]:
    """Return the SHA-256 of each source that is the path of a file, in hexadecimal, by path.

    Raises:
        WeightsError: A file cannot be read.
    """
    paths = [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]
    return {str(path): _hash(path) for path in paths if os.path.isfile(path)}


def _hash(path: Path) -> str:
    from hashlib import sha256

    digest = sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(_PART):
                digest.update(part)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _move(scratch: Path, target: Path, *, overwrite: bool) -> None:
    _sync(scratch)
    if overwrite:
        scratch.replace(target)
    else:
        # A hard link fails where the name was taken meanwhile; a rename would overwrite it.
        try:
            os.link(scratch, target)
        except FileExistsError:
            raise OutputError(f"cannot write {target}: it appeared while we worked") from None
        except OSError:
            scratch.replace(target)
    # Some systems cannot sync a folder; the file itself is safe there, too.
    with suppress(OSError):
        _sync(target.parent)


def _take_over(scratch: Path, former: Path) -> None:
    """Give a new file the owner and the mode of another, or usual ones if that is not there."""
    umask = os.umask(0)
    os.umask(umask)
    mode = 0o666 & ~umask
    with suppress(FileNotFoundError):
        old = former.stat()
        mode = old.st_mode & 0o777
        # Only root may give files away, and everybody to groups of their own.
        with suppress(OSError, AttributeError):
            os.chown(scratch, -1, old.st_gid)
            os.chown(scratch, old.st_uid, -1)
    scratch.chmod(mode)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
