"""Runs tests of Keras models in a process of their own: one can load Keras with one engine only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINES = ("tensorflow", "jax", "torch")


def passed(engine: str, *suites: Path, part: str = "") -> int:
    """Run suites, or the part of them that pytest's ``-k`` names, and count what passed."""
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    roots = (ROOT, ROOT / "backends", ROOT / "adapters")
    paths = os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", part, *suites],
        env=os.environ
        | {
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling takes longer than running
            "KERAS_BACKEND": engine,
            # The networks are small: more threads than one would wait for each other.
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": paths,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    return int(re.findall(r"(\d+) passed", ran.stdout)[-1])
