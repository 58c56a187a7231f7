"""Writes to the terminal: no control characters of others, and no text that it cannot show."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_READABLE = "flain-readable"
_IN_ASCII = str.maketrans(
    {"×": "x", "…": "...", "–": "-", "—": "-", "·": "*", "•": "*", "±": "+-", "≤": "<=", "≥": ">="}
)
# Control and format characters (a format character may turn the direction of what follows),
# surrogates, and the separators that end a line.
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def plain(text: str) -> str:
    r"""Return the text with whatever could steer a terminal, or hide, written as an escape.

    Line ends and tabs stay.

    >>> plain("fc\x1b[31m1")
    'fc\\x1b[31m1'
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(each) if each not in "\n\t" and unicodedata.category(each) in _UNSAFE else each
        for each in text
    )


def one_line(text: str) -> str:
    r"""Return the text as :func:`plain` does, in one line.

    >>> one_line("missing:\n\tfc1")
    'missing: fc1'
    """
    return plain(re.sub(r"\s*[\n\r\t]+\s*", " ", text.strip()))


def shown(text: str) -> str:
    """Return the text in one line, as rich takes it: nothing in it is markup."""
    return escape(one_line(text))


def never_fail() -> None:
    """Let stdout and stderr write what their encoding lacks in ASCII, instead of failing.

    What was closed takes all and keeps nothing.
    """
    codecs.register_error(_READABLE, _readable)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_READABLE)


def can_show(console: Console) -> bool:
    """Return whether a line can be drawn again and again."""
    return console.is_terminal and not console.is_dumb_terminal


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_IN_ASCII)
    return "".join(each if each.isascii() else _frame(each) for each in lacking), error.end


def _frame(character: str) -> str:
    """Return a stroke for what frames are drawn of, and an escape for anything else."""
    if 0x2500 <= ord(character) < 0x2580:
        return "|" if character in "│┃║" else "-"
    return _escaped(character)
