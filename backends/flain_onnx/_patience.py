"""Stops models that run for too long: a few bytes can ask for 2**60 rounds of a loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import onnxruntime

from flain_core.errors import ModelError
from flain_core.storage.limits import TIME, time_limit

_SECONDS_BETWEEN_LOOKS = 0.2


class _Watch:
    """Looks after all runs from one thread, which sleeps while there are none."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[float, onnxruntime.RunOptions]] = {}
        self._numbers = count()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, options: onnxruntime.RunOptions, seconds: float) -> int:
        number = next(self._numbers)
        self._runs[number] = time.monotonic() + seconds, options
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
            now = time.monotonic()
            for end, options in list(self._runs.values()):
                if now > end:
                    options.terminate = True
            if not self._runs:
                self._busy.clear()
                if self._runs:
                    self._busy.set()


_watch = _Watch()


@contextmanager
def patience() -> Iterator[onnxruntime.RunOptions]:
    """Yield options for one run of onnxruntime, which end it when it has taken too long.

    Raises:
        ModelError: It has.
    """
    options, seconds = onnxruntime.RunOptions(), time_limit()
    # Ending a run is reported by the error below, not on the terminal.
    options.log_severity_level = 4
    number = _watch.begin(options, seconds)
    try:
        yield options
    except Exception as error:
        if not options.terminate:
            raise
        raise ModelError(
            f"the model ran for longer than {seconds:g} seconds on one batch; if you trust it, set "
            f"{TIME} to the seconds that it may take"
        ) from error
    finally:
        _watch.end(number)
