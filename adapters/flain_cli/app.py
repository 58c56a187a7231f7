"""The commands: what a user types, and the work that it starts."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

import flain_core as flain
from flain_core.activation import Statistic
from flain_core.files import check_writable, hashes
from flain_core.outputs import Outputs
from flain_core.registry import built_in, check_format, imported, open_network
from flain_core.settings import Crossing, DataSet, Flip, Measure

from . import display, example

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

# What may be lost where nothing is said: of the score, and of the probability at least.
_SCORE = flain.Settings().allowed(None)
_PROBABILITY, _OF_MISSING = (flain.Settings().allowed(missing) for missing in (0.0, 1.0))

# What stands in [brackets] in a help text is markup to rich, and lost. With click 8.5, typer 0.20
# loses the help of arguments, so the commands' docstrings have it.
Architecture = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FACTORY",
        help="For weights in .safetensors or .pt: a function without arguments that builds the "
        "module they belong to. Its Python module is imported from here.",
    ),
]
Scores = Annotated[
    str | None,
    typer.Option(
        metavar="OUTPUT",
        help="For .onnx, .keras and .h5: which output holds the scores, where there are several.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


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


@app.command()
def layers(model: Path, architecture: Architecture = None, scores: Scores = None) -> None:
    """List the layers that can be purified, and why others cannot.

    MODEL is a file: .npz, .onnx, .keras, .h5, or weights.
    """
    display.layers(open_network(_opened(model, architecture, scores)))


@app.command()
def purify(
    final: Path,
    initial: Annotated[Path, typer.Option(help="The model that training started from.")],
    data: Annotated[Path, typer.Option(help="Clean samples: .npz with x and y.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the purified model goes.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="A layer, or auto, dense, conv, all. Repeat for several. (default: auto)"
        ),
    ] = None,
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Report the score on these samples at every step; .npz with x and y. With the "
            "attacker's target as y it is the attack success rate. Never steers the search.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the JSON report goes.")] = None,
    architecture: Architecture = None,
    scores: Scores = None,
    outputs: Annotated[
        Outputs | None,
        typer.Option(help="What the model's scores are. (default: recognised)"),
    ] = None,
    measure: Annotated[
        Measure | None,
        typer.Option(
            help="What the tolerance limits: the loss of the probability of the true class, or of "
            "the clean accuracy (score). (default: probability)"
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help=f"Allowed loss, from 0 to 1. (default: {_PROBABILITY:g} of the probability, or "
            f"{_OF_MISSING:.0%} of what it lacks to 1 if that is more; {_SCORE:g} of the accuracy)"
        ),
    ] = None,
    flip: Annotated[
        Flip | None,
        typer.Option(
            help="What is flipped: the update in the directions that clean data hardly uses, or of "
            "whole input neurons. (default: directions in dense layers, else neurons)"
        ),
    ] = None,
    promise: Annotated[
        float | None,
        typer.Option(
            help="Flip only as far as it can be promised that at most this share of new samples "
            "becomes newly wrong, between 0 and 1. (default: flip first, then say what can be "
            "promised)"
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Probability that the promise is kept, between 0 and 1. "
            f"(default: {flain.Settings.confidence:g})"
        ),
    ] = None,
    held_back: Annotated[
        float | None,
        typer.Option(
            help="Share of the samples held back from the search to bear out the promise, from 0 "
            "to 0.9. (default: 0.2 of at least 200, or what the promise needs)"
        ),
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(
            help="2 flips an update, 1 resets it, 3 flips and doubles it. "
            "(default: 2 for neurons, 3 in directions)"
        ),
    ] = None,
    crossing: Annotated[
        Crossing | None,
        typer.Option(
            help="Return the candidate before the crossing, or the one beyond. "
            f"(default: {flain.Settings.crossing})"
        ),
    ] = None,
    statistic: Annotated[
        Statistic | None,
        typer.Option(
            help="For neurons: what a threshold is compared with. "
            f"(default: {flain.Settings.statistic})"
        ),
    ] = None,
    match_norm: Annotated[
        bool | None,
        typer.Option("--match-norm", help="For neurons: rescale the layer to its former norm."),
    ] = None,
    published: Annotated[
        DataSet | None,
        typer.Option(help="Take the published code's values for a data set, instead of the above."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Purify a model with the help of a few hundred clean samples.

    FINAL is the file of the trained global model: .npz, .onnx, .keras, .h5, or weights.
    """
    settings = _settings(
        published,
        measure=measure,
        tolerance=tolerance,
        flip=flip,
        promise=promise,
        confidence=confidence,
        held_back=held_back,
        factor=factor,
        crossing=crossing,
        statistic=statistic,
        match_norm=match_norm,
    )
    same = False
    # Where the current folder was removed, the check for writing says so.
    with suppress(FileNotFoundError):
        same = report is not None and os.path.realpath(report) == os.path.realpath(output)
    if same:
        raise typer.BadParameter(
            "is where the model goes; choose another name", param_hint="--report"
        )
    named = [_named_file(one) for one in trigger or []]
    probes = dict(named)
    if len(probes) < len(named):
        raise typer.BadParameter("expected different names", param_hint="--trigger")
    model, start = _opened(final, architecture, scores), _opened(initial, architecture)
    targets = [output] if report is None else [output, report]
    for target in targets:
        check_writable(target, overwrite=overwrite)
    check_format(open_network(model).native, output)
    with display.searching() as on_progress:
        result = flain.purify(
            model,
            initial=start,
            data=data,
            layers=layer[0] if layer and len(layer) == 1 else layer or "auto",
            settings=settings,
            probes=probes,
            outputs=outputs,
            progress=on_progress,
        )
    result = replace(result, files=hashes([final, initial, data, *probes.values()]))
    result.save(output, overwrite=overwrite)
    if report is not None:
        result.to_json(report, overwrite=overwrite)
    display.outcome(result)
    for target in targets:
        display.say(f"wrote {target}")


@app.command()
def demo(
    save_to: Annotated[
        Path | None,
        typer.Option(help="Also write the example's files into this folder, to try purify on."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Purify a model that malicious clients of a federation really gave a backdoor."""
    files = example.files(".onnx")
    # Where onnxruntime is missing, nothing shall be copied.
    open_network(files.paths[0])
    if save_to is not None:
        files = example.copy_to(save_to, ".onnx", overwrite=overwrite)
    display.heading(files.story)
    with display.searching() as on_progress:
        result, measured = example.purify(files, on_progress)
    display.demonstration(result, measured)
    if save_to is not None:
        for path in files.in_every_format:
            display.say(f"wrote {path}")
        display.say("\ntry: ", files.command)


def run() -> None:
    """Run the command; an error that flain raises on purpose becomes one clear message."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = display.warning
            app()
    except flain.FlainError as error:
        display.error(error)
        sys.exit(1)


def _opened(path: Path, architecture: str | None, scores: str | None = None) -> Any:
    """Return the path; or the model in it, with its weights loaded or its output chosen."""
    if scores is not None:
        return _with_scores(path, scores)
    if architecture is None:
        return path
    # The current folder may have been removed.
    with suppress(FileNotFoundError):
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
    remedy = "run from the folder that holds it, or install it"
    factory = imported(architecture, what="--architecture", remedy=remedy)
    return built_in("flain_torch").load(path, factory)


def _with_scores(path: Path, scores: str) -> Any:
    if path.suffix == ".onnx":
        return built_in("flain_onnx").load(path, scores=scores)
    if path.suffix in (".keras", ".h5"):
        keras = built_in("flain_keras")
        return keras.open_network(keras.load(path), scores=scores)
    raise flain.ModelError(
        f"--scores chooses among the outputs of an .onnx, .keras or .h5 file; got {path}"
    )


def _settings(published: DataSet | None, **options: Any) -> flain.Settings:
    chosen = {name: value for name, value in options.items() if value is not None}
    if published is None:
        return flain.Settings(**chosen)
    if chosen:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise typer.BadParameter(
            f"fixes {given} too; leave out one or the other", param_hint="--published"
        )
    return flain.Settings.published(published)


def _named_file(argument: str) -> tuple[str, Path]:
    name, equals, path = argument.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(
            f"expected NAME=FILE.npz; got {argument!r}", param_hint="--trigger"
        )
    return name, Path(path)
