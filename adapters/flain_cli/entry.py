"""Starts the ``flain`` command, also where what it needs was not installed."""

from __future__ import annotations

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
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    run()
