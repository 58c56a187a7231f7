"""Runs tests of Keras models in a process of their own: one can load Keras with one engine only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def passed(suite: Path, engine: str, *options: str) -> int:
    """Run a suite, or a part of it, on an engine and count the tests that passed."""
    roots = (ROOT, ROOT / "backends", ROOT / "adapters")
    paths = os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, suite],
        env=os.environ
        | {
            "FLAIN_KERAS_SUITE": suite.name,
            "KERAS_BACKEND": engine,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": paths,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    return int(re.findall(r"(\d+) passed", ran.stdout)[-1])
