"""The commands of ``python -m benchmarks.trust``."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from .disks import Tried
    from .fuzz import Counted
    from .interrupts import Interrupted
    from .kills import Killed
    from .results import Results, Rows

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "trust.json", ROOT / "docs" / "security.md"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(width=120)

Mutants = Annotated[int, typer.Option(help="How many, over all formats.")]
Seed = Annotated[int, typer.Option(help="Chooses the mutants, and the moments of Ctrl-C.")]
Only = Annotated[list[str] | None, typer.Option(help="A format, by the table's name.")]
Presses = Annotated[int, typer.Option(help="How often Ctrl-C is pressed.")]
Write = Annotated[bool, typer.Option(help="Put what was found into docs/security.md.")]
Step = Annotated[int, typer.Option(help="Kill at every n-th event.")]


@app.callback()
def prepare() -> None:
    """Show what is proved about hostile input: mutants, kills, full disks, interrupts."""
    # Before a framework is imported. The limits are small, so that what does not keep them is seen.
    usual = {"OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, value in (usual | {"FLAIN_MEMORY_LIMIT": "0.25", "FLAIN_TIME_LIMIT": "2"}).items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


@app.command()
def fuzz(
    mutants: Mutants = 20_000, seed: Seed = 1, only: Only = None, write: Write = False
) -> None:
    """Read mutants of every format, each in a child process with limits."""
    from .results import gathered

    _end(gathered(_fuzzed(mutants, seed, only), seed=seed), write)


@app.command()
def replay(folder: Annotated[Path, typer.Argument(help="A folder inside `failed`.")]) -> None:
    """Read a mutant again that was kept because it failed."""
    from .fuzz import replayed

    outcome = replayed(folder)
    console.print(f"{outcome.kind}: {outcome.words}", markup=False)


@app.command()
def kills(step: Step = 1, presses: Presses = 100, seed: Seed = 1, write: Write = False) -> None:
    """Kill writes, fill disks, press Ctrl-C."""
    from .results import gathered

    parts = _killed(step), _tried(), _interrupted(presses, seed)
    _end(gathered((), *parts, seed=seed), write)


@app.command(name="all")
def everything(
    mutants: Mutants = 20_000,
    seed: Seed = 1,
    step: Step = 1,
    presses: Presses = 100,
    write: Write = False,
) -> None:
    """Do all of it, and print the tables; the exit code is 1 where something is not as promised."""
    from .results import gathered

    counted = _fuzzed(mutants, seed, None)
    parts = _killed(step), _tried(), _interrupted(presses, seed)
    _end(gathered(counted, *parts, seed=seed), write)


def _end(results: Results, write: bool) -> NoReturn:
    """Show what was found, keep it if that is wanted, and leave with 1 if anything is wrong."""
    from .results import faults, merged

    _show(results)
    for fault in faults(results):
        console.print(fault, markup=False)
    if write:
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        together = merged(before, results)
        RESULTS.write_text(json.dumps(together, indent=1) + "\n", encoding="utf-8")
        _render(together)
    raise typer.Exit(bool(faults(results)))


@app.command()
def render() -> None:
    """Put the tables of the last run that was written into docs/security.md again."""
    _render(json.loads(RESULTS.read_text(encoding="utf-8")))


def _fuzzed(mutants: int, seed: int, only: Sequence[str] | None) -> list[Counted]:
    from .formats import FORMATS
    from .fuzz import Counted, fuzzed, shares

    done = []
    for name, share in shares(mutants, only or list(FORMATS)).items():
        counted = Counted(name)
        for counted in fuzzed(name, share, seed):  # noqa: B007
            pass
        done.append(counted)
        console.print(f"{name}: {dict(counted.counts)}", markup=False)
        for folder, outcome in counted.failed:
            console.print(f"  {folder.name}: {outcome.kind}: {outcome.words}", markup=False)
    return done


def _killed(step: int) -> list[Killed]:
    from .kills import killed
    from .writers import WRITERS

    done = []
    for name in WRITERS:
        done.append(killed(name, step=step))
        console.print(done[-1], markup=False)
    return done


def _tried() -> list[Tried]:
    from .disks import full_disks, no_files, read_only_folders

    done = [*full_disks(), *read_only_folders(), *no_files()]
    for each in done:
        if each.fault:
            console.print(each, markup=False)
    return done


def _interrupted(presses: int, seed: int) -> Interrupted:
    from .interrupts import interrupted

    done = interrupted(presses, seed)
    console.print(done, markup=False)
    return done


def _show(results: Results) -> None:
    from .results import tables

    for title, rows in tables(results).items():
        console.print(_table(title, rows))


def _table(title: str, rows: Rows) -> Table:
    table = Table(title=title)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if index else "left")
    for row in rows[1:]:
        table.add_row(*(each.replace("**", "") for each in row))
    return table


def _render(results: Results) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pages import put_into

    from .results import in_markdown, tables

    libraries = ", ".join(f"{name} {each}" for name, each in results["libraries"].items())
    parts = [in_markdown(rows) for rows in tables(results).values()]
    versions = f"Python {results['python']}, {libraries}, seed {results['seed']}."
    put_into(PAGE, "\n".join((*parts, versions, "")))


if __name__ == "__main__":
    app()
