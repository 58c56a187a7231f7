"""Keeps threads from fighting each other over small batches of work.

The products of a search are small. Waking other threads for each gains little on an idle machine;
on a busy one, waiting for them has made a search fifty times slower. The limits need threadpoolctl;
without it everything runs with its usual number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_WORTH_SHARING = 4 * 2**20


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's linear algebra on one thread inside the block."""
    with _limited("blas"):
        yield


@contextmanager
def one_thread_for(work: int) -> Iterator[None]:
    """Run everything on one thread inside the block, if its batches of work are small.

    Args:
        work: Bytes that each batch of work goes through.
    """
    with _limited(None) if work < _WORTH_SHARING else nullcontext():
        yield


def _limited(user_api: str | None) -> AbstractContextManager[object]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api=user_api)
    return limits
