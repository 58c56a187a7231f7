"""Runs a profile's rows and cells, in any number of processes, each result once.

A result is a file that is written whole. Whoever starts on one holds its lock, which a killed
process loses; so runs can be killed, repeated and set side by side.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import flwr
import numpy as np
import torch
from torch import nn

from . import auxiliary, federation, measured, networks
from .defences import defended
from .files import claimed, locked, write_json, written
from .rows import Cell, Profile, Row

RESULTS = Path(__file__).parent / "results"
MODELS = Path(__file__).parent / ".models"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Where results and models are stored: ``results/<profile>`` and one folder of models."""

    results: Path
    models: Path

    def of_row(self, row: Row) -> Path:
        """The result of a row's training."""
        return self.results / "rows" / f"{row.name}.json"

    def of_cell(self, cell: Cell) -> Path:
        """The result of a cell."""
        return self.results / "cells" / f"{cell.name}.json"

    def model(self, row: Row) -> Path:
        """A row's first and last weights, and what the last ones predict."""
        return self.models / f"{row.name}-{row.key}.pt"

    def lock(self, result: Path) -> Path:
        """The lock of a result."""
        name = str(result.relative_to(self.results)).replace("/", "+")
        return self.models / "locks" / f"{self.results.name}+{name}.lock"


# --- Rows ----------------------------------------------------------------------------


def train(profile: Profile, places: Places, say: Say) -> int:
    """Trains every row that has no result; returns how many failed.

    Low seeds come first, so that every row has one model before any has two.
    """
    rows = sorted(profile.rows.values(), key=lambda row: row.seed)
    work = [(places.of_row(row), row.key, partial(_train, row, places, say)) for row in rows]
    return _each(work, places, say)


def _train(row: Row, places: Places, say: Say) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    first, last = federation.trained(
        row, places.models, lambda done, total: say(f"{row.name}: round {done} of {total}")
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    module = _loaded(row, last)
    test = federation.divided(row.data, row.seed).test
    clean = measured.predicted(row, module, test)
    triggered = measured.predicted(row, module, measured.triggered_test(row))
    stored = {
        "initial": first,
        "final": last,
        "clean": torch.from_numpy(clean),
        "triggered": torch.from_numpy(triggered),
    }
    written(places.model(row), lambda path: torch.save(stored, path))
    federation.forget(row, places.models)
    found = measured.rates(row, clean, triggered)
    say(f"{row.name}: ACC {found['acc']:.1%}, ASR {found['asr']:.1%}, {seconds:.0f} s")
    took = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
    return {"row": asdict(row), **_rounded(found), **took, **_origin(row.device)}


# --- Cells ---------------------------------------------------------------------------


def defend(profile: Profile, places: Places, say: Say) -> int:
    """Runs every cell that has no result and whose row is trained; returns how many failed."""
    pairs = [(profile.rows[cell.row], cell) for cell in profile.cells]
    work = [
        (places.of_cell(cell), row.key, partial(_defend, row, cell, places, say))
        for row, cell in pairs
        if places.model(row).exists()
    ]
    if len(work) < len(pairs):
        say(f"{len(pairs) - len(work)} cells are left out, as their rows are not trained")
    return _each(work, places, say)


def _defend(row: Row, cell: Cell, places: Places, say: Say) -> dict[str, Any]:
    stored = torch.load(places.model(row), weights_only=True)
    before = {name: stored[name].numpy() for name in ("clean", "triggered")}
    initial, final = (_loaded(row, stored[name]) for name in ("initial", "final"))
    whole = federation.divided(row.data, row.seed)
    x, y = auxiliary.drawn(row, cell, whole)
    made = defended(cell.defence, final, initial, x, y, seed=row.seed + 1000 * cell.draw)
    took = {"seconds": round(made.seconds, 2), "cpu_seconds": round(made.cpu_seconds, 2)}
    content: dict[str, Any] = {"cell": asdict(cell), **took}
    content |= {"info": dict(made.info), **_origin(row.device)}
    if made.module is None:
        say(f"{cell.name}: {made.info['refused']}")
        return content
    after = {
        "clean": measured.predicted(row, made.module, whole.test),
        "triggered": measured.predicted(row, made.module, measured.triggered_test(row)),
    }
    found = measured.compared(row, before, after)
    content |= _rounded(found)
    if cell.deep:
        content["relearning"] = measured.relearned(row, made.module)
        content["path"] = measured.along_the_path(row, final, made.module)
    say(
        f"{cell.name}: ACC {found['acc_before']:.1%} -> {found['acc']:.1%}, "
        f"ASR {found['asr_before']:.1%} -> {found['asr']:.1%}, {made.seconds:.1f} s"
    )
    return content


def redo(profile: Profile, places: Places, defence: str) -> int:
    """Removes the profile's results of a defence, so that they are run again; returns how many."""
    paths = [places.of_cell(cell) for cell in profile.cells if cell.defence == defence]
    found = [path for path in paths if path.exists()]
    for path in found:
        path.unlink()
    return len(found)


# --- Both ----------------------------------------------------------------------------


def run(profile: Profile, places: Places, say: Say) -> int:
    """Trains and then defends; returns how many results failed."""
    failed = train(profile, places, say)
    for row in profile.rows.values():
        with locked(places.lock(places.of_row(row))):
            pass  # Another process has trained it by now.
    return failed + defend(profile, places, say)


Work = tuple[Path, str, Callable[[], Mapping[str, Any]]]


def _each(work: Iterable[Work], places: Places, say: Say) -> int:
    failed = 0
    _commit()
    for path, key, run in work:
        if is_done(path, key):
            continue
        with claimed(places.lock(path)) as mine:
            if not mine or is_done(path, key):
                continue
            try:
                content = run()
            except Exception:  # One failed cell must not cost the night's others.
                failed += 1
                say(f"{path.stem} failed:\n{traceback.format_exc()}")
                continue
            write_json(path, {"key": key, **content})
    return failed


def result(path: Path, key: str) -> dict[str, Any] | None:
    """A result, if it is there and belongs to the row as the matrix now has it."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["key"] == key else None


def is_done(path: Path, key: str) -> bool:
    """Whether there is such a result."""
    return result(path, key) is not None


def _loaded(row: Row, state: Mapping[str, torch.Tensor]) -> nn.Module:
    module = networks.built(row.network, row.seed)
    module.load_state_dict(state)
    return module.to(row.device).eval()


def _rounded(rates: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: None if math.isnan(rate) else round(rate, 5) for name, rate in rates.items()}


def _origin(device: str) -> dict[str, Any]:
    threads = f"{torch.get_num_threads()} thread"
    instructions = [torch.backends.cpu.get_cpu_capability()]
    beside = [torch.cuda.get_device_name(device)] if device.startswith("cuda") else []
    return {
        "commit": _commit(),
        "machine": ", ".join(
            [platform.machine(), platform.system(), threads, *instructions, *beside]
        ),
        "versions": {"torch": torch.__version__, "flwr": flwr.__version__, "numpy": np.__version__},
    }


@cache
def _commit() -> str:
    """The commit when this process began, whatever is committed later."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return commit or "unknown"
