"""Says which extra of flain to install where a package that it brings is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import FlainError


class MissingExtraError(FlainError, ModuleNotFoundError):
    """A package is not installed; the message says how to get it. ``name`` is the package."""


def how_to_install(extra: str) -> str:
    """Return the two commands of which one installs an extra.

    >>> how_to_install("onnx")
    'pip install "flain[onnx]", or from a clone pip install ".[onnx]"'
    """
    return f'pip install "flain[{extra}]", or from a clone pip install ".[{extra}]"'


@contextmanager
def needs(what: str, extra: str, *packages: str, also: str = "") -> Iterator[None]:
    """Import in the block what needs the packages of an extra; say so if one is missing.

    Any other module that is missing is a fault, and its error passes unchanged.

    Args:
        what: What needs them.
        extra: The extra of flain that brings them.
        packages: Names of top-level packages, as they are imported.
        also: Further advice, behind the command.

    Raises:
        MissingExtraError: One of the packages is not installed.

    >>> with needs("flain_onnx", "onnx", "no_such_package"):
    ...     import no_such_package.part
    Traceback (most recent call last):
        ...
    flain_core.extras.MissingExtraError: flain_onnx needs no_such_package, which is not installed:
    pip install "flain[onnx]", or from a clone pip install ".[onnx]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if isinstance(error, MissingExtraError) or package not in packages:
            raise
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed: {how_to_install(extra)}{also}",
            name=package,
        ) from error
