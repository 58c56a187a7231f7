"""The options that commands share, in groups; those of the search have a file of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flain_core.outputs import Outputs

from . import debugging
from .gates import Gate

_MODELS, _SAMPLES = "Models", "Samples"
_GATES, _TALK = "Gates", "What is shown"

# What stands in [brackets] in a help text is markup to rich, and lost. With click 8.5, typer 0.20
# loses the help of arguments, so the commands' docstrings have it.


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a model's file needs beside itself."""

    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FACTORY",
            rich_help_panel=_MODELS,
            help="For weights in .safetensors or .pt: a function without arguments that builds the "
            "module they belong to. Its Python module is imported from here.",
        ),
    ] = None
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            rich_help_panel=_MODELS,
            help="For .onnx, .keras and .h5: which output holds the scores, where there are "
            "several.",
        ),
    ] = None
    custom_objects: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:NAME",
            rich_help_panel=_MODELS,
            help="For .keras and .h5: a class or function of your own that the model uses, or a "
            "dict of several. Its Python module is imported from here. Repeat for several.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The samples, and how a model is run on them."""

    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Clean samples: .npz with x and y.", rich_help_panel=_SAMPLES
        ),
    ]
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            rich_help_panel=_SAMPLES,
            help="Report the score on these samples at every step; .npz with x and y. With the "
            "attacker's target as y it is the attack success rate. Never steers the search. "
            "Repeat for several.",
        ),
    ] = None
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            rich_help_panel=_SAMPLES,
            help="Report the accuracy on further clean samples too, which never steer the search; "
            ".npz with x and y. Repeat for several.",
        ),
    ] = None
    outputs: Annotated[
        Outputs | None,
        typer.Option(
            help="What the model's scores are. (default: recognised)", rich_help_panel=_SAMPLES
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_SAMPLES,
            help="Samples per pass. (default: chosen by the size of a sample)",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=_SAMPLES,
            show_default=False,
            help="Divides the samples into those that search and those held back. (default: 0)",
        ),
    ] = 0

    def probes(self) -> dict[str, Path]:
        """Return the files of triggered and held-out samples, by name.

        Raises:
            BadParameter: One has no name, or two have the same.
        """
        named: dict[str, Path] = {}
        for option, given in (("--trigger", self.trigger), ("--holdout", self.holdout)):
            for argument in given or []:
                name, path = _named_file(argument, option)
                if name in named:
                    raise typer.BadParameter(
                        f"expected different names; got {name!r} twice", param_hint=option
                    )
                named[name] = path
        return named

    @property
    def held_out(self) -> list[str]:
        """Names of the samples of ``--holdout``."""
        return [_named_file(argument, "--holdout")[0] for argument in self.holdout or []]


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What the result has to reach."""

    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME<=NUMBER'",
            rich_help_panel=_GATES,
            help="Exit with 4, and write no model, unless the purified model's score is so: "
            "'ASR<=0.02', 'ACC>=0.9'. NAME is one of --trigger or --holdout, or ACC, the accuracy "
            "on the samples that searched. Repeat for several.",
        ),
    ] = None
    require_promise: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=_GATES,
            help="Exit with 4, and write no model, unless it can be promised that at most this "
            "share of new samples becomes newly wrong.",
        ),
    ] = None

    def gates(self, probes: Iterable[str]) -> list[Gate]:
        """Return the gates.

        Raises:
            BadParameter: One is no gate, or names something else than a probe.
        """
        found = []
        names = list(probes)
        for text in self.require or []:
            try:
                gate = Gate.of(text)
                gate.check_name(names)
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--require") from error
            found.append(gate)
        if self.require_promise is not None:
            try:
                found.append(Gate.promised(self.require_promise))
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--require-promise") from error
        return found


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where files go."""

    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the report goes: .html for people, .json for programs."
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace files that exist, except those that are read here."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class TalkOptions:
    """What is shown."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=_TALK,
            help="Write one JSON object to stdout, and nothing else.",
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", rich_help_panel=_TALK, help="Show errors and warnings only."),
    ] = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            rich_help_panel=_TALK,
            help="Show every step, versions and file hashes too.",
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise typer.BadParameter("leave out one of the two", param_hint="--quiet, --verbose")

    @property
    def in_words(self) -> bool:
        """Whether tables and sentences are shown on stdout."""
        return not self.json and not self.quiet


@dataclass(frozen=True, kw_only=True)
class DebugOptions:
    """How errors are shown."""

    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            rich_help_panel=_TALK,
            is_eager=True,
            callback=debugging.switch,
            help="Show the traceback of an error.",
        ),
    ] = False


def _named_file(argument: str, option: str) -> tuple[str, Path]:
    name, equals, path = argument.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(f"expected NAME=FILE.npz; got {argument!r}", param_hint=option)
    if name != name.strip() or set(name) & set("<>"):
        raise typer.BadParameter(
            f"expected a name without <, > and outer spaces, so that --require can name it; got "
            f"{name!r}",
            param_hint=option,
        )
    return name, Path(path)
