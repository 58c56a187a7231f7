"""Starts the ``flain`` command, also where what it needs was not installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say how to install what it needs."""
    try:
        from .run import run
    except ModuleNotFoundError as error:
        if error.name not in {"rich", "typer"}:
            raise
        sys.exit(
            f"error: the flain command needs {error.name}: pip install 'flain[cli]', or from a "
            "clone pip install '.[cli]'"
        )
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    run()
