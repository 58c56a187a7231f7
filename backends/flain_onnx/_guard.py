"""Turns whatever the libraries throw at a strange model into one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flain_core.errors import FlainError, ModelError


@contextmanager
def one_error() -> Iterator[None]:
    """Raise :class:`ModelError` for any exception in the block that is not flain's own.

    The fields of a model hold what its author wrote. Where nothing looks at one before it is used,
    protobuf, onnx, NumPy and Python's own types raise nearly anything.

    >>> with one_error():
    ...     [][0]
    Traceback (most recent call last):
        ...
    flain_core.errors.ModelError: the model cannot be understood (IndexError: list index out of
    range); export it again
    """
    try:
        yield
    except FlainError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model cannot be understood ({first_line(error)}); export it again"
        ) from error


def first_line(error: Exception) -> str:
    """Return an exception's type and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
