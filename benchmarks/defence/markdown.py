"""Numbers and tables as Markdown.

An em dash stands for what is missing, and nothing for what is not planned.
"""

from __future__ import annotations

from collections.abc import Sequence

from .summary import Figure

MISSING = "—"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; only the heads where there is no row."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def percent(figure: Figure, digits: int = 1) -> str:
    """A share in percent."""
    return _text(figure, 100, digits)


def points(figure: Figure) -> str:
    """A difference of shares in percentage points."""
    return _text(figure, 100, 2)


def number(figure: Figure, digits: int = 2) -> str:
    """A number as it is."""
    return _text(figure, 1, digits)


def passed(figure: Figure) -> str:
    """How many results pass a test, of how many."""
    if figure.value is None:
        return _nothing(figure)
    text = f"{round(figure.value * figure.count)} of {figure.count}"
    return text if figure.count == figure.wanted else f"{text} ({figure.wanted} planned)"


def with_deviation(figure: Figure, scale: float = 100, digits: int = 1) -> str:
    """A mean ± its standard deviation."""
    text = rounded(figure.value, scale, digits) if figure.value is not None else _nothing(figure)
    return text if figure.deviation is None else f"{text} ± {scale * figure.deviation:.{digits}f}"


def rounded(value: float, scale: float, digits: int) -> str:
    """The scaled value, and never a negative zero."""
    text = f"{scale * value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text


def _text(figure: Figure, scale: float, digits: int) -> str:
    if figure.value is None:
        return _nothing(figure)
    text = rounded(figure.value, scale, digits)
    return text if figure.count == figure.wanted else f"{text} ({figure.count} of {figure.wanted})"


def _nothing(figure: Figure) -> str:
    return MISSING if figure.wanted else ""
