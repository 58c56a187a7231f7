"""``flain compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import flain_core as flain
from flain_core.outputs import Outputs

from . import display
from .answers import Answers
from .models import opened
from .options import DebugOptions, ModelOptions, TalkOptions
from .tensors import compared, tensors_of_both


def compare(
    a: str,
    b: str,
    models: ModelOptions,
    talk: TalkOptions,
    debug: DebugOptions,  # noqa: ARG001
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also show how the answers differ on these samples: .npz with x and y.",
        ),
    ] = None,
    outputs: Annotated[
        Outputs | None, typer.Option(help="What the models' scores are. (default: recognised)")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Samples per pass. (default: chosen by the size of a sample)"
        ),
    ] = None,
) -> None:
    """Show which tensors of two models differ, and by how much; with --data, their answers too.

    A and B are files, .npz, .onnx, .keras, .h5, .safetensors or .pt, or MODULE:FACTORY.
    Nothing is unpickled. Models of different formats are compared layer by layer.
    The exit code is 0 whether they differ or not.
    """
    with display.only_what_was_asked_for(json=talk.json, quiet=talk.quiet):
        tensors = compared(*tensors_of_both(a, b, models))
        answers = None
        if data is not None:
            both = (opened(name, models) for name in (a, b))
            answers = Answers.of(*both, data=data, outputs=outputs, batch_size=batch_size)
        elif outputs is not None or batch_size is not None:
            raise flain.SettingsError("--outputs and --batch-size go with --data; give samples too")
    if talk.json:
        told = answers.to_dict() if answers else None
        display.as_json({**tensors.to_dict(), "answers": told})
    elif not talk.quiet:
        display.comparison(tensors, answers, verbose=talk.verbose)
