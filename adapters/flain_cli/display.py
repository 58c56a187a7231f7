"""Shows a bar during the search, tables at the end, one line for an error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

import flain_core as flain
from flain_core.network import refused_layers
from flain_core.progress import OnProgress

from .example import Measured

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def layers(network: flain.Network) -> None:
    """Show the layers that can be purified, and why others cannot."""
    found, refused = network.layers(), refused_layers(network)
    table = _table("layer", "kind", "weight (out, in, …)", "groups", "input neurons")
    for name, layer in found.items():
        shape = " × ".join(map(str, layer.weight.shape))
        table.add_row(escape(name), layer.kind, shape, str(layer.groups), str(layer.neurons))
    if found:
        _out.print(table)
    for name, reason in refused.items():
        say(f"{name} cannot be purified: {reason}")
    if not found and not refused:
        say("the model has no fully connected or convolutional layer")


@contextmanager
def searching() -> Iterator[OnProgress]:
    """Show a bar that follows the search; most searches end long before it is full."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=_err,
        transient=True,
        disable=not _err.is_terminal,
    )
    tasks = {}
    with warnings.catch_warnings(), bar:
        # The table that ends a search repeats every warning as a note.
        warnings.simplefilter("ignore", flain.FlainWarning)

        def follow(progress: flain.Progress) -> None:
            if progress.layer not in tasks:
                name = escape(progress.layer)
                tasks[progress.layer] = bar.add_task(name, total=progress.events, state="")
            scores = {"clean": progress.step.clean, **progress.step.probes}
            state = f"{progress.step.neurons_flipped} flipped, " + ", ".join(
                f"{escape(name)} {score:.1%}" for name, score in scores.items()
            )
            bar.update(tasks[progress.layer], completed=progress.done, state=state)

        yield follow


def outcome(result: flain.Purification) -> None:
    """Show what was done, what it cost and what it brought."""
    scores = _table("", "before", "after")
    scores.add_row("clean", f"{result.before.clean:.2%}", f"{result.after.clean:.2%}")
    for name, before in result.before.probes.items():
        scores.add_row(escape(name), f"{before:.2%}", f"{result.after.probes[name]:.2%}")
    _out.print(scores)
    _what_was_done(result)


def heading(text: str) -> None:
    """Show a sentence that says what follows."""
    _out.print(f"[bold]{escape(text)}[/bold]\n")


def demonstration(result: flain.Purification, measured: Measured) -> None:
    """Show the example before and after, on samples that the search has never seen."""
    table = _table("on held-out samples", "before", "after")
    for name, (before, after) in measured.items():
        table.add_row(name, f"{before:.1%}", f"{after:.1%}")
    _out.print(table)
    _what_was_done(result)


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
            escape(layer.name),
            layer.flip,
            "–" if layer.threshold is None else f"{layer.threshold:.4g}",
            f"{layer.share:.1%}",
            f"{int(layer.flipped.sum())}/{layer.flipped.size}",
            str(len(layer.steps)),
            layer.stop_reason,
            f"{layer.seconds:.1f}",
        )
    _out.print(table)
    verdict = f"{result.verdict}: "
    for note in result.notes:
        if note.startswith(verdict):
            why = note.removeprefix(verdict)
            _out.print(
                f"[bold]verdict: {result.verdict}.[/bold] {escape(why[0].upper() + why[1:])}"
            )
        elif note.startswith("promise: "):
            _out.print(f"[bold]promise:[/bold]{escape(note.removeprefix('promise:'))}")
        else:
            _out.print(f"[dim]note: {escape(note)}[/dim]")


def say(text: str, command: str = "") -> None:
    """Show a line, and a command at its end, unbroken so that it can be copied."""
    _out.print(f"{escape(text)}[bold]{escape(command)}[/bold]", soft_wrap=True)


def error(error: flain.FlainError) -> None:
    """Say why nothing was done."""
    _err.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)


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
    _err.print(f"[bold yellow]warning:[/bold yellow] {escape(told)}", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table
