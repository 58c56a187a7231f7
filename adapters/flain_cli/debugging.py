"""Remembers whether the user asked for tracebacks."""

from __future__ import annotations

_asked: list[bool] = [False]


def switch(wanted: bool) -> bool:
    """Remember the value of ``--debug``, and return it."""
    _asked[0] = wanted
    return wanted


def asked_for() -> bool:
    """Return whether tracebacks are to be shown."""
    return _asked[0]
