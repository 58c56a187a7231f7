"""Copies the figures that the README shows from the page that the results are rendered to.

python benchmarks/readme_figures.py
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "how-well.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
NAMES = {
    "MNIST, attacked: clean": "attacked models of MNIST that are clean",
    "MNIST, attacked: mean ASR after, %": "their mean ASR after, %",
    "MNIST, attacked: mean drop of ACC, points": "their mean drop of ACC, points",
    "MNIST, attackers who know flain: mean ASR after, %": "mean ASR of those who know flain, %",
    "MNIST, no attacker: worst drop of ACC, points": "worst drop of ACC if nobody attacked, points",
    "CIFAR-10, attacked: mean ASR after, %": "mean ASR after on CIFAR-10, %",
}


def table(page: str) -> str:
    """Return the README's table, of the page's first one.

    Raises:
        KeyError: The page has no such row.
    """
    rows: dict[str, list[str]] = {}
    for line in page.splitlines():
        if line.startswith("| "):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows.setdefault(name.strip(), cells)
    lines = ["| | flain | up to 0.1 |", "|---|---|---|"]
    for name, shown in NAMES.items():
        now, _, _, former, *_ = rows[name]
        lines.append(f"| {shown} | {now} | {former} |")
    return "\n".join(lines)


def updated(readme: str, page: str) -> str:
    """Return the README with the page's figures."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(page)}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(
        updated(README.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
