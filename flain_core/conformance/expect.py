"""Assertions that say what was expected and what was given, with or without pytest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flain_core.errors import FlainError
from flain_core.network import Array


def expect(holds: bool, expected: str, given: object) -> None:
    """Raise :class:`AssertionError` unless something holds; python -O does not switch it off.

    >>> expect(1 + 1 == 3, "1 + 1 to be 3", 1 + 1)
    Traceback (most recent call last):
        ...
    AssertionError: expected 1 + 1 to be 3; got 2
    """
    if not holds:
        raise AssertionError(f"expected {expected}; got {given}")


def expect_same(given: Array, expected: Array, what: str) -> None:
    """Require equal shapes and equal numbers; the types may differ."""
    if given.shape == expected.shape:
        differing = f"{np.count_nonzero(given != expected)} of {expected.size} numbers that differ"
    else:
        differing = f"shape {given.shape} instead of {expected.shape}"
    expect(np.array_equal(given, expected), f"{what}, exactly", differing)


def expect_error(error: type[FlainError], call: Callable[[], object]) -> None:
    """Require that a call raises an error of that type."""
    try:
        call()
    except error:
        return
    expect(False, f"{error.__name__} to be raised", "no error")
