"""``flain demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flain_core.opening.registry import open_network

from . import display, example
from .options import DebugOptions
from .progress import searching


def demo(
    debug: DebugOptions,  # noqa: ARG001
    save_to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write the example's files into this folder, to try purify on.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = (
        False
    ),
) -> None:
    """Purify a model that malicious clients of a federation really gave a backdoor."""
    files = example.files(".onnx")
    # Where onnxruntime is missing, nothing shall be copied.
    open_network(files.paths[0])
    if save_to is not None:
        files = example.copy_to(save_to, ".onnx", overwrite=overwrite)
    display.heading(files.story)
    with searching() as on_progress:
        result, measured = example.purify(files, on_progress)
    display.demonstration(result, measured)
    if save_to is not None:
        for path in files.in_every_format:
            display.say(f"wrote {path}")
        display.say("\ntry: ", files.command)
