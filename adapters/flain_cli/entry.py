"""Starts the ``flain`` command, also where what it needs was not installed."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command, or say how to install what it needs."""
    try:
        from flain_core.extras import MissingExtraError, needs

        try:
            with needs("the flain command", "cli", "click", "rich", "typer"):
                from .run import run
        except MissingExtraError as error:
            sys.exit(f"error: {error}")
        code = run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = 130
    # What it came to is told. An interrupt while Python ends could only spoil the exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
