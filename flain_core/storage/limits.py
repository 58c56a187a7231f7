"""Limits on what a file that others made may cost, in memory and in time.

The limits are read from the environment each time, so that a command and a job can change them.
"""

from __future__ import annotations

import os

from flain_core.errors import FlainError, SettingsError

MEMORY = "FLAIN_MEMORY_LIMIT"
"""Names the variable: GiB that a file may ask for beyond its own size, or a model on a batch; 2 by
default."""

TIME = "FLAIN_TIME_LIMIT"
"""Names the variable: seconds that a model in a file may run on one batch; 3600 by default."""

_DEFAULTS = {MEMORY: 2.0, TIME: 3600.0}


def memory_limit() -> int:
    """Return how many bytes a file may ask for beyond its own size."""
    return int(_limit(MEMORY) * 2**30)


def time_limit() -> float:
    """Return how many seconds a model in a file may run on one batch."""
    return _limit(TIME)


def check_memory(wanted: int, *, size: int, what: str, error: type[FlainError]) -> None:
    """Raise ``error`` if something asks for more memory than it may.

    Args:
        wanted: Bytes that it asks for.
        size: Bytes that it is known to have, such as those of a file on the disk.
        what: What asks, for the message.
        error: The type to raise.

    >>> from flain_core import DataError
    >>> check_memory(2**40, size=1000, what="x.npz", error=DataError)
    Traceback (most recent call last):
        ...
    flain_core.errors.DataError: x.npz asks for 1,024.0 GiB of memory, more than the 2 GiB that are
    allowed; if you trust it, set FLAIN_MEMORY_LIMIT to the GiB that it may take
    """
    allowed = memory_limit()
    if wanted > max(allowed, size):
        raise error(
            f"{what} asks for {wanted / 2**30:,.1f} GiB of memory, more than the "
            f"{allowed / 2**30:g} GiB that are allowed; if you trust it, set {MEMORY} to the GiB "
            "that it may take"
        )


def _limit(name: str) -> float:
    given = os.environ.get(name)
    if given is None:
        return _DEFAULTS[name]
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    # Infinity is a limit; NaN is not.
    if not limit > 0:
        raise SettingsError(f"expected a number above 0 in {name}; got {given!r}")
    return limit
