"""Child processes, forked or spawned, purify as their parent does."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from alike_networks import BUILD, FINAL, INITIAL, first_weight, purified

LONGEST = 300
"""Seconds that a child may take before it counts as one that hangs."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP cannot be forked once it has started other threads."""
    try:
        import torch
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def found(model: Any, initial: Any) -> tuple[float | None, np.ndarray]:
    result = purified(model, initial)
    return result.layers[0].threshold, first_weight(result.model)


def child(framework: str, connection: Any) -> None:
    build = BUILD[framework]
    connection.send(found(build(FINAL), build(INITIAL)))
    connection.close()


def from_child(target: Callable[..., None], method: str, *args: Any) -> Any:
    """Return what a child process sends, or fail if it sends nothing."""
    context = multiprocessing.get_context(method)
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*args, its))
    with warnings.catch_warnings():
        # Newer Pythons warn of any fork beside other threads, such as those of pytest's plug-ins.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    its.close()
    try:
        assert mine.poll(LONGEST), "the child process hangs"
        return mine.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("framework", BUILD)
def test_a_child_finds_what_its_parent_found_before(framework, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    build = BUILD[framework]
    threshold, weight = found(build(FINAL), build(INITIAL))
    its_threshold, its_weight = from_child(child, method, framework)
    assert its_threshold == threshold
    np.testing.assert_array_equal(its_weight, weight)


def with_network(network: Any, initial: Any, connection: Any) -> None:
    connection.send(found(network, initial))
    connection.close()


@pytest.mark.parametrize("framework", ["torch", "onnx"])
def test_a_forked_child_goes_on_with_a_network_that_its_parent_ran(framework):
    from flain_core.opening.registry import open_network

    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    final, initial = (open_network(BUILD[framework](held)) for held in (FINAL, INITIAL))
    threshold, weight = found(final, initial)
    its_threshold, its_weight = from_child(with_network, "fork", final, initial)
    assert its_threshold == threshold
    np.testing.assert_array_equal(its_weight, weight)
