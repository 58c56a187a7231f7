"""Copies the figures that the README shows from the pages that the results are rendered to.

python benchmarks/readme_figures.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HOW_WELL, OTHERS = (ROOT / "docs" / name for name in ("how-well.md", "other-defences.md"))
MISSING = "—"
BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"
NAMES = {
    "MNIST, attacked: clean": "attacked models of MNIST that are clean",
    "MNIST, attacked: mean ASR after, %": "their mean ASR after, %",
    "MNIST, attacked: mean drop of ACC, points": "their mean drop of ACC, points",
    "MNIST, attackers who know flain: mean ASR after, %": "mean ASR of those who know flain, %",
    "MNIST, no attacker: worst drop of ACC, points": "worst drop of ACC if nobody attacked, points",
    "MNIST with a dense network, no attacker: worst drop of ACC, points": (
        "the same for a dense network, points"
    ),
    "CIFAR-10, attacked: clean": "attacked models of CIFAR-10 that are clean",
    "CIFAR-10, attacked: mean ASR after, %": "mean ASR after on CIFAR-10, %",
}


def how_well(page: str) -> str:
    """Return the README's table of flain, of the first one on its page.

    Raises:
        KeyError: The page has no such row.
    """
    rows: dict[str, list[str]] = {}
    for line in page.splitlines():
        name, *cells = _cells(line)
        rows.setdefault(name, cells)
    lines = ["| | flain | up to 0.1 |", "|---|---|---|"]
    for name, shown in NAMES.items():
        now, _, _, former, *_ = rows[name]
        lines.append(f"| {shown} | {now} | {former} |")
    return "\n".join(lines)


def others(page: str) -> str:
    """Return the README's table of flain beside the best of the other defences, by mean DER."""
    lines = [
        "| mean DER (mean drop of ACC, points) | flain | the best of the others |",
        "|---|---|---|",
    ]
    for section in page.split("\n### ")[1:]:
        title, _, rest = section.partition("\n")
        rows = {name: cells for name, *cells in map(_cells, rest.splitlines()) if cells}
        if "flain" not in rows:
            continue
        measured = {name: cells for name, cells in rows.items() if cells[0].isdigit()}
        by_der = {n: float(cells[2]) for n, cells in measured.items() if cells[2] != MISSING}
        count, _, der, drop, *_ = measured["flain"]
        del by_der["flain"]
        best = max(by_der, key=lambda name: by_der[name])
        _, _, its_der, its_drop, *_ = measured[best]
        models = f"{count} model{'' if count == '1' else 's'}"
        lines.append(f"| {title}, {models} | {der} ({drop}) | {its_der}, {best} ({its_drop}) |")
    return "\n".join(lines)


def _cells(line: str) -> list[str]:
    """Return the cells of a table's line; one cell for any other line."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def updated(readme: str, made: Mapping[str, str]) -> str:
    """Return the README with tables in their places, by name."""
    for name, table in made.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = readme.split(begin)
        _, after = rest.split(end)
        readme = f"{before}{begin}\n{table}\n{end}{after}"
    return readme


def tables() -> dict[str, str]:
    """Return the README's tables, by the names of their places."""
    how, beside = (page.read_text(encoding="utf-8") for page in (HOW_WELL, OTHERS))
    return {"figures": how_well(how), "others": others(beside)}


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8"), tables()), encoding="utf-8")
