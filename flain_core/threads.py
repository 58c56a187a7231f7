"""Keeps threads from fighting each other over small batches of work.

The products of a search are small. Waking other threads for each gains little on an idle machine;
on a busy one, waiting for them has made a search fifty times slower. The limits need threadpoolctl;
without it everything runs with its usual number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Lock

_WORTH_SHARING = 4 * 2**20

_lock, _limit = Lock(), ExitStack()
_blocks: set[object] = set()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's linear algebra on one thread inside the block.

    The limit is the whole process's: the first block sets it, and the last one lifts it. If each
    set and lifted it alone, the first would lift it for the others, and the last would put back
    what it found: the limit.
    """
    block = object()
    with _lock:
        if not _blocks:
            _limit.enter_context(_limited("blas"))
        _blocks.add(block)
    try:
        yield
    finally:
        with _lock:
            _blocks.remove(block)
            if not _blocks:
                _limit.close()


@contextmanager
def one_thread_for(work: int) -> Iterator[None]:
    """Run everything on one thread inside the block, if its batches of work are small.

    Args:
        work: Bytes that each batch of work goes through.
    """
    if work >= _WORTH_SHARING:
        yield
        return
    # OpenMP has a limit for each thread that starts work, BLAS one for the whole process.
    with one_blas_thread(), _limited("openmp"):
        yield


def _limited(user_api: str) -> AbstractContextManager[object]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api=user_api)
    return limits
