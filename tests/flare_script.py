"""Runs a script that starts NVIDIA FLARE's server and clients, in processes of their own."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

JOBS = Path(__file__).parent / "flare_jobs"
DATA = os.environ.get("FLAIN_DATA")


def run(script, workspace, *arguments, data=DATA):
    """Run a script, make sure that nothing connects to elsewhere, and return code and output."""
    paths = [str(JOBS / "guard"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    outside = workspace / "outside.txt"
    environment = {
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "OUTSIDE": str(outside),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "FLAIN_DATA": os.path.relpath(data) if data else "",
    }
    with alone():
        ran = subprocess.run(
            [sys.executable, script, *map(str, arguments or (workspace,))],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
            timeout=600,
        )
    assert not outside.exists(), outside.read_text()
    return ran.returncode, ran.stdout + ran.stderr


@contextmanager
def alone() -> Iterator[None]:
    """Wait for every other script: each takes a port some time after it has found it free."""
    path = Path(tempfile.gettempdir()) / f"flare_script_{os.getuid()}.lock"
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
