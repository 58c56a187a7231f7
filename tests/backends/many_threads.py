"""Purifies one model in many threads at once, to be compared with what one thread does alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Barrier, Thread
from typing import Any

import numpy as np
from alike_networks import FINAL, INITIAL, first_weight, purified
from outputs_alike import Weights

import flain_core as flain
from flain_core.opening.registry import open_network

SIZES = (7, 10, 16, 33, 50, 64, 100, 400)


def check_threads(build: Callable[[Weights], Any], *, opened: bool, sizes: Sequence[int]) -> None:
    """Let each of eight threads purify the same object, with a batch size of its own.

    ``opened`` gives them a network instead of the framework's model: they share all that it holds.
    """
    final, initial = build(FINAL), build(INITIAL)
    if opened:
        final, initial = open_network(final), open_network(initial)

    def task(size: int) -> Callable[[], flain.Purification]:
        # By neurons, and with few cuts kept: then the model runs most often.
        settings = flain.Settings(flip="neurons")
        options = {"batch_size": size, "memory_limit": 4000, "settings": settings}
        return lambda: purified(final, initial, **options)

    alone = {size: task(size)() for size in set(sizes)}
    for size, result in zip(sizes, at_once([task(size) for size in sizes]), strict=True):
        check_same(result, alone[size])
    # Nothing of what the threads did to the model stays.
    check_same(task(sizes[0])(), alone[sizes[0]])


def check_same(one: flain.Purification, other: flain.Purification) -> None:
    assert (one.before, one.after) == (other.before, other.after)
    (mine,), (its,) = one.layers, other.layers
    assert (mine.threshold, mine.method, mine.steps) == (its.threshold, its.method, its.steps)
    np.testing.assert_array_equal(mine.flipped, its.flipped)
    np.testing.assert_array_equal(first_weight(one.model), first_weight(other.model))


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run tasks in a thread each, all started together; raise what one of them raised."""
    start = Barrier(len(tasks))
    results: list[Any] = [None] * len(tasks)

    def work(number: int) -> None:
        start.wait()
        try:
            results[number] = tasks[number]()
        except BaseException as error:  # raised by the thread that started this one
            results[number] = error

    threads = [Thread(target=work, args=(number,)) for number in range(len(tasks))]
    interval = sys.getswitchinterval()
    # Threads take turns as often as if each had a core of its own.
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
