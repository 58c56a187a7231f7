"""The errors of flain: one type per cause, and one base to catch them all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeAlias

__all__ = [
    "DataError",
    "FlainError",
    "FlainWarning",
    "LayerError",
    "ModelError",
    "Note",
    "OutputError",
    "SettingsError",
    "WeightsError",
]


class FlainError(Exception):
    """Base of every error that flain raises on purpose."""


class SettingsError(FlainError, ValueError):
    """An option is out of its range or does not fit another option."""


class DataError(FlainError, ValueError):
    """The auxiliary data or a probe cannot be used: shape, labels, emptiness, NaN."""


class ModelError(FlainError, TypeError):
    """No backend can open the model, or the model cannot be run on the data."""


class LayerError(FlainError, LookupError):
    """A layer does not exist, is not supported, or cannot be measured."""


class WeightsError(FlainError, ValueError):
    """Initial and final weights do not belong together, are not finite, or cannot be read."""


class OutputError(FlainError, OSError):
    """A result cannot be written where it was asked to go."""


class FlainWarning(UserWarning):
    """Something the caller should look at; the result is still what was asked for."""


Note: TypeAlias = "str | FlainWarning"
"""A sentence for the reader of an outcome; a serious one is a warning."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``" Did you mean 'fc1'?"`` for the most similar of ``names``, or nothing.

    >>> nearest("fc_1", ["conv1", "fc1"])
    " Did you mean 'fc1'?"
    >>> nearest("fc1.weight", ["conv1", "fc1"])
    " Did you mean 'fc1'?"
    >>> nearest("zzz", ["conv1", "fc1"])
    ''
    """
    from difflib import get_close_matches

    by_lower = {known.lower(): known for known in names}
    given = name.lower()
    close = get_close_matches(given, by_lower, n=1)
    close = close or [known for known in by_lower if known and given.startswith(known)]
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def listed(items: Collection[str], separator: str = ", ", *, most: int = 6) -> str:
    """Return the first few items in one line, and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = separator.join(list(items)[:most])
    more = len(items) - most
    return f"{shown} and {more} more" if more > 0 else shown


def levels_to_caller() -> int:
    """Return the ``stacklevel`` at which a warning points to the code that called flain."""
    from inspect import currentframe

    frame, level, ours = currentframe(), 0, 0
    while frame:  # others' wrappers may lie between our functions
        if frame.f_globals.get("__name__", "").startswith(("flain.", "flain_")):
            ours = level
        frame, level = frame.f_back, level + 1
    return ours + 1
