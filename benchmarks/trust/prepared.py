"""What it takes to try the reader of a format: mutants of it, and a way to read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from .children import Files, Reader

Mutate: TypeAlias = Callable[[Random], Files]


@dataclass(frozen=True)
class Prepared:
    """What a format needs in this process, with its libraries imported.

    Attributes:
        mutate: Makes a mutant.
        read: Reads one, the main file of it being at a path.
    """

    mutate: Mutate
    read: Reader
