"""A small matrix of the harness with hand-made results, for tests of what is made of them."""

import json

from defence import stored, tables
from defence.rows import Cell, Profile, Row

VERSIONS = {"torch": "1", "flwr": "2", "numpy": "3"}
ORIGIN = {"commit": "abc", "machine": "a machine", "versions": VERSIONS}


def row(name, seed=21, **fields):
    defaults = {"data": "mnist", "network": "mnist", "mcr": 0.3, "seed": seed}
    return Row(f"{name}-s{seed}", **{**defaults, **fields})


class Matrix:
    """Rows and cells, some of them with results in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = {}
        self.cells = []

    def add(self, row, asr=1.0, acc=0.9, trained=True):
        self.rows[row.name] = row
        if trained:
            content = {"key": row.key, "acc": acc, "asr": asr, "row": {"seed": row.seed}, **ORIGIN}
            self._write(f"rows/{row.name}.json", content)
        return row

    def run(self, row, defence="flain", samples=800, *, done=True, info=None, **fields):
        """``fields`` are the cell's, and after them the result's; the rest is made up."""
        of_cell = {name: fields.pop(name) for name in ("draw", "kind", "deep") if name in fields}
        cell = Cell(row.name, defence, samples, **of_cell)
        self.cells.append(cell)
        told = {"flipped": {"fc1": 10}, "promise": None, "verdict": "flipped", "version": "0.2"}
        content = {"key": row.key, "info": told if info is None else told | info, **ORIGIN}
        rates = {"acc_before": 0.9, "acc": 0.9, "asr_before": 1.0, "asr": 0.0, "ra": 0.8}
        content |= rates | {"der": 1.0, "newly_wrong": 0, "cpu_seconds": 2.0} | fields
        if done:
            self._write(f"cells/{cell.name}.json", content)

    def _write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def read(self):
        return stored.read(Profile("made", self.rows, tuple(self.cells)), self.folder)


def lines(text):
    """A Markdown table's lines, cells by head."""
    heads, _, *rest = (
        [cell.strip() for cell in line[1:-1].split(" | ")] for line in text.split("\n")
    )
    return [dict(zip(heads, cells, strict=True)) for cells in rest]


def line(text, **wanted):
    (found,) = (
        each for each in lines(text) if all(each[head] == value for head, value in wanted.items())
    )
    return found


def first(read, label):
    return line(tables.first(read), **{"": label})["flain, 800"]
