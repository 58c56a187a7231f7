"""Keeps the threads of a BLAS library from fighting each other during a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS single-threaded inside the block, where threadpoolctl is installed to do so.

    The products of a search are small: waking a pool of threads for each costs more than it saves,
    and two pools on the same cores, NumPy's and a framework's, have made one fifty times slower.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        limit = nullcontext()
    else:
        limit = threadpool_limits(limits=1, user_api="blas")
    with limit:
        yield
