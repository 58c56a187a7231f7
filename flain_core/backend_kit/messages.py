"""Words for errors: what a framework said, what was given, and what to do."""

from __future__ import annotations

import re

AS_TRAINED = "give samples of the shape and layout that the model was trained on"
"""What to do about a model that fails on samples."""

CHANGED_MEANWHILE = (
    "changed while the model was being copied, so another thread trains it: wait for that to end, "
    "or give a copy that nobody trains"
)
"""What is wrong with a tensor that is no longer what was copied of it."""

RECURRENT = "a recurrent layer uses its weights anew in each step, hidden from all around it"
"""Why a recurrent layer is refused."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def kind_of(value: object) -> str:
    """Return the name of a value's type with its article.

    >>> kind_of({}), kind_of(3)
    ('a dict', 'an int')
    """
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def shortened(told: str, most: int = 300) -> str:
    r"""Return what a framework said in one line of plain text, uncoloured, at a bearable length.

    >>> shortened("\x1b[1mInput 0 is\x1b[0m\n  incompatible")
    'Input 0 is incompatible'
    >>> shortened("word " * 100, most=20)
    'word word word word…'
    """
    plain = " ".join(_COLOURS.sub("", told).split())
    plain = "".join(letter if letter.isprintable() else " " for letter in plain)
    return plain if len(plain) <= most else plain[:most].rstrip() + "…"
