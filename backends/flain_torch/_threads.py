"""How many threads a piece of work deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["threads_for"]

_WORTH_SHARING = 2**20


@contextmanager
def threads_for(elements: int) -> Iterator[None]:
    """Keep work on a small tensor on one thread.

    Waking others for it gains little on an idle machine, and where another process keeps the cores
    busy, waiting for them costs ten times the work itself.

    Args:
        elements: Numbers in the tensor that the work starts from.
    """
    usual = torch.get_num_threads()
    if usual == 1 or elements >= _WORTH_SHARING:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
