"""Parts of large arrays, so that no whole copy of one is made, and arrays that change hands."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from .network import Array

_BLOCK_BYTES = 4 * 2**20
_SMALL_BYTES = 16 * 2**20
_WIDEST = 8  # bytes of a number in double precision


def row_blocks(weight: Array, beside: int = 0) -> Iterator[slice]:
    """Yield blocks of rows of which each is small in double precision, also if the weight is not.

    Args:
        weight: Of any type.
        beside: How many numbers are made of each row; they are to be small, too.

    Example:
        >>> import numpy as np
        >>> list(row_blocks(np.zeros((3, 2**18), dtype=np.float16)))
        [slice(0, 2, None), slice(2, 3, None)]
        >>> list(row_blocks(np.zeros((2, 1)), beside=2**19))
        [slice(0, 1, None), slice(1, 2, None)]
    """
    yield from _blocks(len(weight), max(weight[:1].size, beside))


def column_blocks(rows: Array) -> Iterator[slice]:
    """Yield blocks of columns of a matrix of which each is small in double precision.

    >>> import numpy as np
    >>> list(column_blocks(np.zeros((2**18, 3), dtype=np.float16)))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    yield from _blocks(rows.shape[1], len(rows))


def is_small(count: int) -> bool:
    """Return whether an array of so many bytes may be kept beside what is kept anyway."""
    return count <= _SMALL_BYTES


def largest_of(weight: Array) -> float:
    """Return the largest magnitude in a weight, without a copy of it; 0 for none.

    >>> import numpy as np
    >>> largest_of(np.array([1.0, -2.0]))
    2.0
    """
    return max(float(weight.max(initial=0)), -float(weight.min(initial=0)))


def give_back_freed() -> None:
    """Give the system back what was freed; glibc keeps it, and cannot use all of it again.

    Where another C library is used, this does nothing.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def handed_over(array: Array) -> Array:
    """Give an array away: it is read only from now on, so whoever gets it needs no copy."""
    array.flags.writeable = False
    return array


def is_handed_over(array: Array) -> bool:
    """Return whether an array has memory of its own that nobody can write to.

    >>> import numpy as np
    >>> array = np.zeros(3)
    >>> is_handed_over(array), is_handed_over(handed_over(array)), is_handed_over(array[:2])
    (False, True, False)
    """
    return bool(array.flags.owndata and not array.flags.writeable)


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Divide so many things of so many numbers each."""
    at_once = max(_BLOCK_BYTES // max(_WIDEST * size, 1), 1)
    for start in range(0, count, at_once):
        yield slice(start, min(start + at_once, count))
