"""Processes that share the work of a matrix."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("flwr")
pytest.importorskip("tomllib")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAITS = """
import time

from benchmarks.defence import processes


def wait(profile, places, say):
    say("waits")
    time.sleep(300)
    return 0


if __name__ == "__main__":
    processes.run(2, (wait, None, None))
"""


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_run_leaves_no_process_behind(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(WAITS, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-u", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as run:
        both = {int(run.stdout.readline().split()[1]) for _ in range(2)}
        (other,) = both - {run.pid}
        run.send_signal(signal.SIGKILL)
        run.wait()
        deadline = time.monotonic() + 60
        while is_running(other) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = is_running(other)
        if left:
            os.kill(other, signal.SIGKILL)
        assert not left
