"""Runs the command, and turns whatever ends it into one line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress

import click

import flain_core as flain

from . import debugging, display
from .app import app
from .exit_codes import ExitCode
from .terminal import never_fail

# How errors name an argument of Python that is an option here: overwrite=True (--overwrite on …).
_ARGUMENT = re.compile(r"\b\w+=\w+ \((--[a-z-]+) on the command line\)")
_COMPLETING = ("typer", "click")


def run() -> int:
    """Run the command and return the exit code."""
    never_fail()
    return ended_with()


def ended_with(arguments: Sequence[str] | None = None) -> int:
    """Run the command, say why if it fails, and return the exit code.

    Args:
        arguments: What was typed behind ``flain``; None takes it from ``sys.argv``.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = display.warning
            # Not standalone: what ends the command is told here, in one way.
            returned = app(arguments, prog_name="flain", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.ClickException as error:
        return _misused(error)
    except flain.FlainError as error:
        if debugging.asked_for():
            display.unexpected(error)
        display.problem(_ARGUMENT.sub(r"\1", str(error)))
        return ExitCode.USAGE if isinstance(error, flain.SettingsError) else ExitCode.ERROR
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # as Rich and Typer take it
            return _unread()
        if _is_completion(error):
            raise
        display.problem(
            "code that you named, or that of the model, ended the command before it was done "
            f"(SystemExit: {error})"
        )
        return ExitCode.ERROR
    # Whatever else is raised is a fault of ours, or of code that the user named.
    except BaseException as error:
        if debugging.asked_for():
            display.unexpected(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            display.problem("no space is left where the output goes; what was written before stays")
            return _unread()
        display.problem(
            f"unexpected {type(error).__name__}: {error}; --debug shows where. Please report it"
        )
        return ExitCode.ERROR
    # Typer returns the code of an Exit, and older ones turn Ctrl-C into one.
    code = returned if isinstance(returned, int) else 0
    return _interrupted() if code == ExitCode.INTERRUPTED else code


def _is_completion(error: SystemExit) -> bool:
    """Return whether the shell was told how words go on, which Typer ends by itself."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in _COMPLETING


def _unread() -> int:
    """Show nothing more: the reader has gone, as ``head`` does, or the disk is full."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.ERROR


def _interrupted() -> int:
    display.problem("interrupted")
    return ExitCode.INTERRUPTED


def _misused(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if type(error).__name__ == "NoArgsIsHelpError":  # which older ones lack
        error.show()
        return ExitCode.USAGE
    command = context.command_path if context else "flain"
    suggests = "Did you mean" in error.message  # by Typer, to which click adds its own
    message = (error.message if suggests else error.format_message()).rstrip(".")
    display.problem(f"{message} ({command} --help says what can be given)")
    return ExitCode.USAGE
