"""The commands that a user types; each has a file of its own."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import display
from .audit import audit
from .compare import compare
from .demo import demo
from .layers import layers
from .option_groups import with_groups
from .purify import purify

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        display.say(f"flain {version('flain')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Remove backdoors from federated models after training."""


for _command in (layers, purify, audit, compare, demo):
    app.command()(with_groups(_command))
