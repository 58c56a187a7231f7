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


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run NumPy's linear algebra on one thread inside the block."""
    _of_blas.hold()
    try:
        yield
    finally:
        _of_blas.release()


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


class _SharedLimit:
    """A limit of the whole process, set by the first thread that wants it and lifted by the last.

    If each set and lifted it alone, the first would lift it for the others, and the last would put
    back what it found: the limit.
    """

    def __init__(self, user_api: str) -> None:
        self._user_api, self._lock = user_api, Lock()
        self._holders, self._limit = 0, ExitStack()

    def hold(self) -> None:
        with self._lock:
            if not self._holders:
                self._limit.enter_context(_limited(self._user_api))
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._limit.close()


_of_blas = _SharedLimit("blas")


def _limited(user_api: str) -> AbstractContextManager[object]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api=user_api)
    return limits
