"""The oldest Flower that this package works with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

FLOOR = (1, 27)


def check_flower() -> None:
    """Raise ImportError, with the remedy, where Flower is older than the floor."""
    floor = ".".join(map(str, FLOOR))
    try:
        there = version("flwr")
    except PackageNotFoundError:
        return  # importing it says so
    if tuple(map(int, re.findall(r"\d+", there)[:2])) < FLOOR:
        raise ImportError(
            f"flain_flower needs Flower {floor} or newer; flwr {there} is installed: "
            f"pip install -U 'flwr>={floor}'"
        )
