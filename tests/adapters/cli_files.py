"""A small backdoored model in files, and the command run on them in this process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import backdoored
import numpy as np

import flain_numpy
from flain_cli.run import ended_with


class Ran(NamedTuple):
    """What the command returned and showed."""

    code: int
    out: str
    err: str


class Files(NamedTuple):
    """A folder with the models ``initial.npz`` and ``final.npz``, and samples."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    @property
    def searching(self) -> tuple[object, ...]:
        """What ``purify`` and ``audit`` need."""
        return (self.final, "--initial", self.initial, "--data", self.auxiliary)

    def there(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


def write_files(folder: Path) -> Files:
    files = Files(folder)
    for name, network in zip(("initial", "final"), backdoored.networks(), strict=True):
        flain_numpy.save(network, folder / f"{name}.npz")
    samples = {
        "auxiliary": backdoored.samples(600, seed=11),
        "clean": backdoored.samples(400, seed=12),
        "triggered": backdoored.triggered(400, seed=13),
    }
    for name, (x, y) in samples.items():
        np.savez(folder / f"{name}.npz", x=x, y=y)
    return files


def command(capsys, *words: object) -> Ran:
    """Run the command as ``flain`` does, with everything that it shows."""
    code = ended_with([str(word) for word in words])
    shown = capsys.readouterr()
    return Ran(int(code), shown.out, shown.err)
