"""Presses Ctrl-C at random moments of ``flain purify``, while it imports too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shutil import rmtree

import numpy as np

from .folders import folder_for_now

_COMMAND = """
import os
from flain_cli.entry import main
os.write(int(os.environ["TRUST_STARTED"]), b".")
main()
"""
_INTERRUPTED, _SECONDS = 130, 120


@dataclass
class Interrupted:
    """What came of interrupts.

    Attributes:
        presses: How many there were.
        ended: How often the command said in one line that it was interrupted, with code 130.
        too_late: How often it had done its work.
        faults: What else came.
    """

    presses: int = 0
    ended: int = 0
    too_late: int = 0
    faults: list[str] = field(default_factory=list)


def interrupted(presses: int, seed: int = 1) -> Interrupted:
    """Press Ctrl-C at random moments, from the call of the command's main function on."""
    done, rng = Interrupted(), Random(seed)  # noqa: S311
    with folder_for_now() as folder:
        write_inputs(folder)
        # A process in the background ignores Ctrl-C, and so would what it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed(folder, None)
        started = time.monotonic()
        _pressed(folder, None)
        whole = time.monotonic() - started
        for _ in range(presses):
            # Imports take most of the time; half of the presses come in the first third.
            share = rng.random() * rng.choice((0.35, 1.0))
            _judge(done, share, folder, *_pressed(folder, share * whole))
    if presses and not done.ended:
        done.faults.append("came too late each time")
    return done


def write_inputs(folder: Path) -> None:
    """Write two models and samples of them."""
    import flain_numpy as fn

    rng = np.random.default_rng(0)
    x = rng.random((400, 60)).astype(np.float32)
    final = rng.standard_normal((10, 60)).astype(np.float32)
    fn.save(fn.Network([fn.Dense("scores", final)]), folder / "final.npz")
    fn.save(fn.Network([fn.Dense("scores", final * 0.5)]), folder / "initial.npz")
    np.savez(folder / "data.npz", x=x, y=(x @ final.T).argmax(axis=1))


def _pressed(folder: Path, after: float | None) -> tuple[int, str, str]:
    """Run the command, press Ctrl-C some seconds after its start, and return how it ended."""
    reading, writing = os.pipe()
    out = folder / "out"
    rmtree(out, ignore_errors=True)
    out.mkdir()
    words = ["purify", folder / "final.npz", "--initial", folder / "initial.npz"]
    words += ["--data", folder / "data.npz", "-o", out / "model.npz", "--report", out / "r.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *map(str, words)],
        env=os.environ | {"TRUST_STARTED": str(writing)},
        pass_fds=(writing,),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    if after is not None:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=_SECONDS)
    return process.returncode, told, said


def _judge(done: Interrupted, share: float, folder: Path, code: int, told: str, said: str) -> None:
    done.presses += 1
    left = sorted(each.name for each in (folder / "out").iterdir())
    stray = [each for each in left if each not in ("model.npz", "r.json")]
    lines = [line for line in said.splitlines() if "warning" not in line.lower()]
    where = f"at {share:.0%}"
    if "Traceback" in told + said or stray:
        done.faults.append(f"{where}: code {code}, left {stray}: {said[-2000:]}")
    elif code == _INTERRUPTED and lines[-1:] == ["error: interrupted"]:
        done.ended += 1
    elif code in (0, 3) and "model.npz" in left + ["model.npz"] * (code == 3):
        done.too_late += 1
    else:
        done.faults.append(f"{where}: code {code}: {said[-500:]}")
