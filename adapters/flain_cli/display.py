"""Shows tables and sentences on stdout, and one line for an error on stderr."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from rich import box
from rich.table import Table

import flain_core as flain

from .answers import Answers
from .example import Measured
from .tensors import Difference, TensorsCompared
from .terminal import err, out, plain, shown


def layers(found: Mapping[str, flain.Layer], refused: Mapping[str, str]) -> None:
    """Show the layers that can be purified, and why others cannot."""
    table = _table("layer", "kind", "weight (out, in, …)", "groups", "input neurons")
    for name, layer in found.items():
        shape = " × ".join(map(str, layer.weight.shape))
        table.add_row(shown(name), layer.kind, shape, str(layer.groups), str(layer.neurons))
    if found:
        out.print(table)
    for name, reason in refused.items():
        say(f"{name} cannot be purified: {reason}")
    if not found and not refused:
        say("the model has no fully connected or convolutional layer")


def outcome(
    result: flain.Purification, held_out: Sequence[str] = (), *, verbose: bool = False
) -> None:
    """Show what was done, what it cost and what it brought.

    Args:
        result: The outcome.
        held_out: The probes that are clean samples.
        verbose: Whether to show every step, versions and file hashes too.
    """
    scores = _table("", "before", "after")
    scores.add_row("clean", f"{result.before.clean:.2%}", f"{result.after.clean:.2%}")
    for name, before in result.before.probes.items():
        label = f"{name} (held out)" if name in held_out else name
        scores.add_row(shown(label), f"{before:.2%}", f"{result.after.probes[name]:.2%}")
    out.print(scores)
    _what_was_done(result)
    if verbose:
        _details(result)


def comparison(tensors: TensorsCompared, answers: Answers | None, *, verbose: bool) -> None:
    """Show how two models differ.

    Args:
        tensors: How their tensors differ.
        answers: How their answers differ; None without samples.
        verbose: Whether to show equal tensors too.
    """
    changed = [each for each in tensors.differences if each.changed]
    listed = tensors.differences if verbose else changed
    if listed:
        out.print(_differences(listed))
    for name, (mine, its) in tensors.shapes.items():
        say(f"{name} has the shape {_shape(mine)} in A and {_shape(its)} in B")
    for name in tensors.only_in_a:
        say(f"{name} is only in A")
    for name in tensors.only_in_b:
        say(f"{name} is only in B")
    equal = len(tensors.differences) - len(changed)
    say(f"{len(changed)} {_tensors(len(changed))}, {equal} equal")
    if answers is not None:
        _answers(answers)


def heading(text: str) -> None:
    """Show a sentence that says what follows."""
    out.print(f"[bold]{shown(text)}[/bold]\n")


def demonstration(result: flain.Purification, measured: Measured) -> None:
    """Show the example before and after, on samples that the search has never seen."""
    table = _table("on held-out samples", "before", "after")
    for name, (before, after) in measured.items():
        table.add_row(name, f"{before:.1%}", f"{after:.1%}")
    out.print(table)
    _what_was_done(result)


def say(text: str, command: str = "") -> None:
    """Show a line, and a command at its end, unbroken so that it can be copied."""
    if text.startswith("\n"):
        out.print()
    line = f"{shown(text)}{' ' if command else ''}"
    out.print(f"{line}[bold]{shown(command)}[/bold]", soft_wrap=True)


def as_json(told: Mapping[str, Any]) -> None:
    """Write one object to stdout."""
    sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def only_what_was_asked_for(*, json: bool, quiet: bool = False) -> Iterator[None]:
    """Keep other code from writing to stdout if that is for one object, and from warning.

    flain's own warnings are shown always: each says that the result may not be what it seems.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr) if json else nullcontext():
        if quiet:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", flain.FlainWarning)
        yield


def problem(text: str) -> None:
    """Say on stderr, in one line, why something was not done."""
    err.print(f"[bold red]error:[/bold red] {shown(text)}", soft_wrap=True)


def failed(text: str) -> None:
    """Say on stderr, in one line, what was not reached."""
    err.print(f"[bold red]{shown(text)}[/bold red]", soft_wrap=True)


def unexpected(error: BaseException) -> None:
    """Show the traceback of an error on stderr."""
    told = "".join(traceback.format_exception(error))
    err.print(plain(told), markup=False, soft_wrap=True)


def warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Say in one line what was warned of; ``warnings.showwarning`` of a command."""
    ours = issubclass(category, flain.FlainWarning)
    told = str(message) if ours else f"{filename}:{lineno}: {category.__name__}: {message}"
    err.print(f"[bold yellow]warning:[/bold yellow] {shown(told)}", soft_wrap=True)


def _what_was_done(result: flain.Purification) -> None:
    table = _table(
        *("layer", "flips", "up to", "update flipped", "neurons flipped"),
        *("tried", "stopped by", "seconds"),
    )
    table.collapse_padding = True  # so that it fits a terminal of 80 columns
    for column in (*table.columns[:3], table.columns[5], table.columns[7]):
        column.no_wrap = True
    for layer in result.layers:
        table.add_row(
            shown(layer.name),
            layer.flip,
            "–" if layer.threshold is None else f"{layer.threshold:.4g}",
            f"{layer.share:.1%}",
            f"{int(layer.flipped.sum())}/{layer.flipped.size}",
            str(len(layer.steps)),
            layer.stop_reason,
            f"{layer.seconds:.1f}",
        )
    out.print(table)
    verdict = f"{result.verdict}: "
    for note in result.notes:
        if note.startswith(verdict):
            why = note.removeprefix(verdict)
            out.print(f"[bold]verdict: {result.verdict}.[/bold] {shown(why[0].upper() + why[1:])}")
        elif note.startswith("promise: "):
            out.print(f"[bold]promise:[/bold] {shown(note.removeprefix('promise:'))}")
        elif note not in result.warnings:  # those have been said on stderr
            out.print(f"[dim]note: {shown(note)}[/dim]")


def _details(result: flain.Purification) -> None:
    for layer in result.layers:
        probes = list(result.before.probes)
        table = _table(f"steps of {layer.name}", "up to", "neurons flipped", "clean", *probes)
        for number, step in enumerate(layer.steps, start=1):
            scores = (f"{score:.2%}" for score in (step.clean, *step.probes.values()))
            flipped = str(step.neurons_flipped)
            table.add_row(str(number), f"{step.threshold:.4g}", flipped, *scores)
        if layer.steps:
            out.print(table)
        say(f"{layer.name}: searched by the method {layer.method!r}; {layer.why_method}")
    say("versions: " + ", ".join(f"{name} {number}" for name, number in result.versions.items()))
    for path, digest in result.files.items():
        say(f"sha256 {digest} {path}")


def _differences(differences: Sequence[Difference]) -> Table:
    table = _table("tensor", "shape", "entries changed", "largest change", "relative change")
    for each in differences:
        table.add_row(
            shown(each.name),
            _shape(each.shape),
            f"{each.changed}/{each.entries}",
            "not finite" if each.largest is None else f"{each.largest:.4g}",
            "–" if each.relative is None else f"{each.relative:.2%}",
        )
    return table


def _answers(answers: Answers) -> None:
    table = _table(f"on {answers.samples} samples", "A", "B")
    table.add_row("accuracy", *(f"{each:.2%}" for each in answers.accuracy))
    table.add_row("probability of the true class", *(f"{each:.2%}" for each in answers.probability))
    out.print(table)
    share = answers.different / answers.samples
    say(f"{answers.different} samples ({share:.2%}) are given another class in B than in A")
    say(f"{answers.newly_wrong} are newly wrong in B, {answers.newly_right} newly right")
    say(f"scores differ by at most {answers.largest:.4g}")


def _tensors(count: int) -> str:
    return "tensor differs" if count == 1 else "tensors differ"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(shown(column), justify="left" if index == 0 else "right")
    return table
