"""Thread limits hold inside a block and nowhere else."""

import sys

import numpy as np
import pytest

from flain_core.threads import one_blas_thread, one_thread_for

threadpoolctl = pytest.importorskip("threadpoolctl")


def threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]


def blas_threads():
    pools = threadpoolctl.threadpool_info()
    return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]


@pytest.mark.parametrize("limited", [one_blas_thread, lambda: one_thread_for(1000)])
def test_small_work_runs_on_one_thread(limited):
    with threadpoolctl.threadpool_limits(2):
        before = threads()
        context = limited()
        assert threads() == before
        with context:
            assert min(threads()) == 1
        assert threads() == before


def test_large_work_is_left_to_share():
    with threadpoolctl.threadpool_limits(2):
        before = threads()
        with one_thread_for(2**30):
            assert threads() == before


def test_without_threadpoolctl_nothing_is_limited(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with threadpoolctl.threadpool_limits(2):
        before = threads()
        with one_blas_thread(), one_thread_for(1000):
            assert threads() == before


@pytest.mark.parametrize("limited", [one_blas_thread, lambda: one_thread_for(1000)])
def test_a_limit_holds_until_the_last_of_several_threads_lifts_it(limited):
    with threadpoolctl.threadpool_limits(2):
        before = blas_threads()
        first, second = limited(), limited()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_a_thread_that_fails_lifts_its_limit():
    with threadpoolctl.threadpool_limits(2):
        before = blas_threads()
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError
        assert blas_threads() == before
