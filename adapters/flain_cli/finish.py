"""Ends a search: the purified model is written first, then the report, then all is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

import flain_core as flain

from . import display
from .exit_codes import ExitCode
from .models import files_of
from .search import Judged, Plan


def finish(plan: Plan, judged: Judged) -> None:
    """Write what is to be written, show the rest, and leave with the exit code.

    A file that cannot be written does not keep the other one from being written.

    Raises:
        OutputError: A file could not be written; the message says what was.
        Exit: With any other exit code than 0.
    """
    files, talk = plan.files, plan.talk
    output, report = plan.output, files.report
    written: list[Path] = []
    errors: list[Exception] = []

    def attempt(
        path: Path,
        write: Callable[..., None],
        all_of: Callable[[Path], Iterable[Path]] = lambda path: (path,),
    ) -> None:
        # A report is drawn by other packages, which may fail in any way; the model is safe by then.
        try:
            write(path, overwrite=files.overwrite)
            written.extend(all_of(path))
        except Exception as error:
            errors.append(error)

    if output is not None and judged.why_not_written is None:
        attempt(output, judged.result.save, files_of)
    if report is not None:
        attempt(report, judged.result.report)
    code = ExitCode.ERROR if errors else judged.exit_code
    if talk.json:
        display.as_json(_told(plan, judged, written, errors, code))
    if talk.in_words:
        display.outcome(judged.result, plan.samples.held_out, verbose=talk.verbose)
        _files_in_words(judged, output, written)
    for gate in judged.gates:
        if not gate.met:
            display.failed(str(gate))
        elif talk.in_words:
            display.say(str(gate))
    if judged.exit_code is ExitCode.NOT_FLIPPED and not talk.in_words:
        display.failed(f"verdict: {judged.result.verdict}")
    if errors:
        raise _lost(written, errors)
    if code:
        raise typer.Exit(code)


def _files_in_words(judged: Judged, output: Path | None, written: list[Path]) -> None:
    for path in written:
        display.say(f"wrote {path}")
    if output is not None and judged.why_not_written:
        display.say(f"{output} was not written: {judged.why_not_written}")


def _lost(written: list[Path], errors: list[Exception]) -> flain.OutputError:
    told = "; ".join(
        str(error) if isinstance(error, flain.FlainError) else f"{type(error).__name__}: {error}"
        for error in errors
    )
    rest = f"; written all the same: {', '.join(map(str, written))}" if written else ""
    lost = flain.OutputError(f"{told}{rest}")
    lost.__cause__ = errors[0]
    return lost


def _told(
    plan: Plan, judged: Judged, written: list[Path], errors: list[Exception], code: ExitCode
) -> dict[str, Any]:
    return {
        "exit_code": int(code),
        "written": [str(path) for path in written],
        "errors": [str(error) for error in errors],
        "gates": [gate.to_dict() for gate in judged.gates],
        "held_out": plan.samples.held_out,
        **judged.result.to_dict(),
    }
