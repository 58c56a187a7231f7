"""Tells Flower what was done, through its logger."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flwr.serverapp.strategy import Result

from flain_core import FlainWarning, Purification

log = logging.getLogger("flwr")


@contextmanager
def warnings_logged(*, instead: bool) -> Iterator[set[str]]:
    """Send flain's warnings to Flower's logger; yield the texts that went there.

    ``instead`` keeps them from their usual way, which other warnings take; filters keep their say.
    """
    told: set[str] = set()
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FlainWarning):
                told.add(str(message))
                log.warning("FLAIN: %s", message)
            if not (instead and issubclass(category, FlainWarning)):
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield told


def log_purification(purification: Purification, told: set[str]) -> None:
    """Log what was done, and each note that no warning has told yet."""
    log.info("FLAIN: %r", purification)
    for note in purification.notes:
        if note not in told:
            log.info("FLAIN: %s", note)


def log_result(result: Result) -> None:
    """Log the results as Flower does at the end of training, when nothing was purified yet."""
    log.info("")
    log.info("Final results, of the purified model:")
    log.info("")
    for line in io.StringIO(str(result)):
        log.info("\t%s", line.rstrip("\n"))
