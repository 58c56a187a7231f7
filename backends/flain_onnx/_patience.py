"""Stops models that run for too long or grow too large.

A few bytes can ask for 2**60 rounds of a loop, each of which doubles what the last one made.
onnxruntime looks between two steps of a model whether it is to stop: one step, it finishes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import onnxruntime

from flain_core.errors import ModelError
from flain_core.storage.limits import MEMORY, TIME, memory_limit, time_limit

_SECONDS_BETWEEN_LOOKS = 0.05
_PER_INPUT = 64
"""How many times the bytes of a batch a model may take: layers widen what they are given."""


@dataclass(eq=False)
class _Run:
    """One run: when it has to end, how much it may take, and what of these it exceeded.

    How large the process was is asked at the first look, so that it costs short runs nothing.
    """

    end: float
    allowed: int
    before: int | None = None
    options: onnxruntime.RunOptions = field(default_factory=onnxruntime.RunOptions)
    exceeded: str = ""

    def look(self, now: float, size: int) -> None:
        self.before = size if self.before is None else self.before
        if now > self.end:
            self.exceeded = "time"
        elif size > self.before + self.allowed:
            self.exceeded = "memory"
        if self.exceeded:
            self.options.terminate = True


class _Watch:
    """Looks after all runs from one thread, which sleeps while there are none."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._numbers = count()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, run: _Run) -> int:
        number = next(self._numbers)
        self._runs[number] = run
        # A process that was forked has no threads but the one that forked it.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, daemon=True, name="flain-patience")
            self._thread.start()
        if not self._busy.is_set():
            self._busy.set()
        return number

    def end(self, number: int) -> None:
        del self._runs[number]

    def _look(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            now, size = time.monotonic(), _resident()
            for run in list(self._runs.values()):
                run.look(now, size)
            if not self._runs:
                self._busy.clear()
                if self._runs:
                    self._busy.set()


_watch = _Watch()


@contextmanager
def patience(given: int) -> Iterator[onnxruntime.RunOptions]:
    """Yield options for one run of onnxruntime, which end it when it has taken too much.

    Args:
        given: Bytes of the inputs.

    Raises:
        ModelError: It took too long, or this process has grown too large meanwhile.
    """
    seconds, allowed = time_limit(), max(memory_limit(), _PER_INPUT * given)
    run = _Run(time.monotonic() + seconds, allowed)
    # Ending a run is reported by the error below, not on the terminal.
    run.options.log_severity_level = 4
    number = _watch.begin(run)
    try:
        yield run.options
    except Exception as error:
        if not run.exceeded:
            raise
        if run.exceeded == "memory":
            raise ModelError(
                f"the model took more than {allowed / 2**30:,.1f} GiB of memory on one batch; if "
                f"you trust it, set {MEMORY} to the GiB that it may take"
            ) from error
        raise ModelError(
            f"the model ran for longer than {seconds:g} seconds on one batch; if you trust it, set "
            f"{TIME} to the seconds that it may take"
        ) from error
    finally:
        _watch.end(number)


def _resident() -> int:
    """Return how much memory this process has, in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
