"""Text of others, made safe to show, and numbers as people write them."""

from __future__ import annotations

import math
import unicodedata

_SHOWN = {"\t", "\n"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return text whose control characters, reversals and lone surrogates are written out.

    >>> visible("fc1\x1b[2J\u202e")
    'fc1\\x1b[2J\\u202e'
    >>> visible("Größe, 層 1")
    'Größe, 層 1'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _HIDDEN and character not in _SHOWN
        else character
        for character in text
    )


def percent(share: float | None, digits: int = 1) -> str:
    r"""Write a fraction in per cent; a dash for None, and what is not finite as it is.

    >>> percent(0.12345), percent(None), percent(-0.00001)
    ('12.3\xa0%', '–', '0.0\xa0%')
    """
    if share is None:
        return "–"
    if not math.isfinite(share):
        return str(share)
    return f"{round(100 * share, digits) + 0.0:.{digits}f}\N{NO-BREAK SPACE}%"


def number(value: float | None) -> str:
    """Write a number with a few digits; a dash for None.

    >>> number(0.000123456), number(1234567.0), number(None)
    ('0.0001235', '1.235e+06', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "sample"), counted(1200, "sample"), counted(2, "class")
    ('1 sample', '1,200 samples', '2 classes')
    """
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def points(change: float) -> str:
    """Write a change of a share in percentage points, with its sign.

    >>> points(-0.0123), points(0.0)
    ('−1.2', '±0.0')
    """
    shown = f"{100 * change:+.1f}".replace("-", "−")
    return "±0.0" if shown in ("+0.0", "−0.0") else shown
