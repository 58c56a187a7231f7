"""The oldest Flower that this package works with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

FLOOR = (1, 27)


def check_flower() -> None:
    """Raise ImportError, with the remedy, where Flower is older than the floor."""
    floor = ".".join(map(str, FLOOR))
    try:
        there = version("flwr")
    except PackageNotFoundError:
        return  # importing it says so
    if _numbers(there) < FLOOR:
        raise ImportError(
            f"flain_flower needs Flower {floor} or newer; flwr {there} is installed: "
            f"pip install -U 'flwr>={floor}'"
        )


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version.

    >>> _numbers("1.27.0"), _numbers("1.9.0rc1"), _numbers("2.dev3")
    ((1, 27), (1, 9), (2, 0))
    """
    first, second, *_ = [*text.split("."), "0"]
    return (_leading(first), _leading(second))


def _leading(text: str) -> int:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0)
