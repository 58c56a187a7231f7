"""The command line, ``python -m benchmarks.defence``: train, defend, run, list, render."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import processes, rows, runner, stored
from .files import written

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console()

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"default": DOCS / "how-well.md", "rivals": DOCS / "other-defences.md"}

ProfileName = Annotated[str, typer.Option("--profile", help="Part of the matrix to run.")]
Matrix = Annotated[Path, typer.Option(help="File with the matrix.")]
Results = Annotated[Path, typer.Option(help="Folder of results; each profile has its own in it.")]
Models = Annotated[Path, typer.Option(help="Folder of trained models, locks and unfinished work.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes; each uses one thread.")]
Redo = Annotated[
    list[str] | None,
    typer.Option(help="Remove a defence's results first. Leave it out to go on after a kill."),
]
Device = Annotated[
    str, typer.Option(help="As PyTorch calls it; without it, what the matrix says of each row.")
]
Only = Annotated[str, typer.Option(help="Part of a name; run only rows or cells that have it.")]


@app.command()
def train(
    profile: ProfileName = "default",
    matrix: Matrix = rows.MATRIX,
    results: Results = runner.RESULTS,
    models: Models = runner.MODELS,
    jobs: Jobs = 1,
    only: Only = "",
    device: Device = "",
) -> None:
    """Train the rows' federations that have no result."""
    places = runner.Places(results / profile, models)
    _stop(processes.run(jobs, (runner.train, _wanted(profile, matrix, only, device), places)))


@app.command()
def defend(
    profile: ProfileName = "default",
    matrix: Matrix = rows.MATRIX,
    results: Results = runner.RESULTS,
    models: Models = runner.MODELS,
    jobs: Jobs = 1,
    redo: Redo = None,
    only: Only = "",
    device: Device = "",
) -> None:
    """Run the defences that have no result, on rows that are trained."""
    places = runner.Places(results / profile, models)
    wanted = _wanted(profile, matrix, only, device)
    for defence in redo or []:
        console.print(f"{defence}: {runner.redo(wanted, places, defence)} results removed")
    _stop(processes.run(jobs, (runner.defend, wanted, places)))


@app.command()
def run(
    profile: ProfileName = "default",
    matrix: Matrix = rows.MATRIX,
    results: Results = runner.RESULTS,
    models: Models = runner.MODELS,
    jobs: Jobs = 1,
    only: Only = "",
    device: Device = "",
) -> None:
    """Do both: train, and then defend what is trained."""
    places = runner.Places(results / profile, models)
    _stop(processes.run(jobs, (runner.run, _wanted(profile, matrix, only, device), places)))


@app.command(name="list")
def show(
    profile: ProfileName = "default",
    matrix: Matrix = rows.MATRIX,
    results: Results = runner.RESULTS,
    models: Models = runner.MODELS,
) -> None:
    """Show the rows, what was measured before any defence, and how many cells are done."""
    read, places = rows.read(profile, matrix), runner.Places(results / profile, models)
    table = Table("row", "trained", "ACC", "ASR", "seconds", "cells")
    for row in read.rows.values():
        found = runner.result(places.of_row(row), row.key)
        cells = [cell for cell in read.cells if cell.row == row.name]
        done = sum(runner.is_done(places.of_cell(cell), row.key) for cell in cells)
        rates = [f"{found[name]:.1%}" for name in ("acc", "asr")] if found else ["", ""]
        seconds = f"{found['seconds']:.0f}" if found else ""
        table.add_row(row.name, "yes" if found else "no", *rates, seconds, f"{done}/{len(cells)}")
    console.print(table)


@app.command()
def render(
    profile: ProfileName = "default",
    matrix: Matrix = rows.MATRIX,
    results: Results = runner.RESULTS,
    page: Annotated[
        Path | None,
        typer.Option(
            help="The page to write; figures lie beside it. Without it, the default profile's is "
            "docs/how-well.md, that of rivals docs/other-defences.md, and another's lies with its "
            "results."
        ),
    ] = None,
) -> None:
    """Write the page and its figures from the results."""
    from . import plots
    from .page import page as page_on_all
    from .page_on_rivals import page_on_rivals

    folder = results / profile
    if page is None:
        page = PAGES.get(profile, folder / "how-well.md")
    found = stored.read(rows.read(profile, matrix), folder)
    figures = plots.write(found, page.parent / "figures", page.stem)
    text = (page_on_rivals if profile == "rivals" else page_on_all)(found, figures)
    written(page, lambda beside: beside.write_text(text, encoding="utf-8"))
    console.print(f"{page}: {len(found.outcomes)} of {len(found.profile.cells)} results")


def _wanted(profile: str, matrix: Path, only: str, device: str) -> rows.Profile:
    import torch

    wanted = rows.read(profile, matrix).only(only)
    if device:
        wanted = wanted.on(device)
    for row in wanted.rows.values():
        if row.device.startswith("cuda") and not torch.cuda.is_available():
            raise typer.BadParameter(f"{row.name} is for {row.device!r}; PyTorch sees none")
    return wanted


def _stop(worked: bool) -> None:
    if not worked:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
