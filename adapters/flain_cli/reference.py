"""Writes the command's reference, in Markdown, from the command itself.

``python -m flain_cli.reference docs/command-line.md`` brings that page up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from .app import app
from .exit_codes import MEANINGS

_BEGIN, _END = "<!-- made from the command: begin -->\n", "<!-- made from the command: end -->\n"


def reference() -> str:
    """Return the exit codes, and every command with its arguments and options, as Markdown."""
    return "\n".join((*_exit_codes(), *_commands()))


def brought_up_to_date(page: str) -> str:
    """Return a page with the reference between its two marks.

    Raises:
        ValueError: The page has no such marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"expected a page with {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}\n{reference()}\n{end}{after}"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    yield "| code | meaning |\n|---|---|"
    for code, meaning in MEANINGS.items():
        yield f"| {int(code)} | {meaning} |"
    yield (
        "\nA gate that is not met comes before the verdict: if both apply, the code is "
        f"{int(_code('GATE'))}.\n"
    )


def _code(name: str) -> int:
    return next(code for code in MEANINGS if code.name == name)


def _commands() -> Iterator[str]:
    group = typer.main.get_command(app)
    context = click.Context(group, info_name="flain")
    names = group.list_commands(context) if isinstance(group, click.Group) else []
    for name in names:
        command = group.get_command(context, name) if isinstance(group, click.Group) else None
        if command is None:
            continue
        of_command = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(of_command))
        yield f"## flain {name}\n"
        yield f"{_markdown(command.help or '')}\n"
        yield f"```text\nflain {name} {usage}\n```\n"
        yield from _options(command)


def _options(command: click.Command) -> Iterator[str]:
    panels: dict[str, list[str]] = {"Options": []}  # first, as in the command's own help
    for option in command.params:
        if isinstance(option, click.Option):
            panel = getattr(option, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append(_option(option))
    for panel, options in panels.items():
        if options:
            yield "\n".join((f"**{panel}**\n", *options, ""))


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" `{_value(option)}`"
    required = " Required." if option.required else ""
    return f"- {names}{value}: {_markdown(option.help or '')}{required}"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.upper()


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", r"\*")


def _main(path: str) -> None:
    page = Path(path)
    page.write_text(brought_up_to_date(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
