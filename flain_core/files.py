"""Writes files whole or not at all, and never over something that was there before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError, WeightsError

# So that the name of a scratch file is no longer than one that a file system takes.
_STEM = 32


def readable(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if there is a file; raise :class:`WeightsError` if there is not.

    >>> readable("/nowhere/at/all.npz")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: cannot read /nowhere/at/all.npz: there is no such file
    """
    source = Path(path)
    if not os.path.isfile(source):
        raise WeightsError(f"cannot read {source}: there is no such file")
    return source


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return ``path`` if a file can be written there; raise :class:`OutputError` before any work.

    >>> check_writable("/nowhere/at/all.npz")
    Traceback (most recent call last):
        ...
    flain_core.errors.OutputError: cannot write /nowhere/at/all.npz: its folder does not exist
    """
    try:
        # The file itself: writing to a link means writing to what it leads to.
        target = Path(os.path.realpath(path))
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
def written_whole(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a scratch file to write; move it to ``path`` if the block ends well, else remove it.

    The scratch file lies in the same folder and has the same suffix, so that writers which look at
    the suffix work and the move is one atomic step.
    """
    from tempfile import mkstemp

    target = check_writable(path, overwrite=overwrite)
    try:
        handle, name = mkstemp(
            dir=target.parent, prefix=f".{target.stem[:_STEM]}-", suffix=target.suffix
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    scratch = Path(name)
    try:
        yield scratch
        _move(scratch, target, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def hashes(sources: Iterable[object]) -> dict[str, str]:
    """Return the SHA-256 of each source that is the path of a file, in hexadecimal, by path.

    Raises:
        WeightsError: A file cannot be read.
    """
    paths = [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]
    return {str(path): _hash(path) for path in paths if os.path.isfile(path)}


def _hash(path: Path) -> str:
    from hashlib import sha256

    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def _move(scratch: Path, target: Path, *, overwrite: bool) -> None:
    umask = os.umask(0)
    os.umask(umask)
    scratch.chmod(0o666 & ~umask)
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
