"""Starts the ``flain`` command, also where what it needs was not installed."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command, or say how to install what it needs."""
    presses = _noted_presses()
    try:
        from flain_core.extras import MissingExtraError, needs

        try:
            with needs("the flain command", "cli", "click", "rich", "typer"):
                from .run import run
        except MissingExtraError as error:
            sys.exit(f"error: {error}")
        code = run()
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception:
        # A library that is being imported may turn Ctrl-C into an error of its own, as NumPy does.
        if not presses:
            raise
        code = _interrupted()
    # What it came to is told. An interrupt while Python ends could only spoil the exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _noted_presses() -> list[int]:
    """Return a list to which each Ctrl-C adds its signal from now on, beside interrupting."""
    presses: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        presses.append(number)
        signal.default_int_handler(number, frame)

    # A run in the background goes on ignoring it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return presses


def _interrupted() -> int:
    sys.stderr.write("error: interrupted\n")
    return 130
