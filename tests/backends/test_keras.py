"""Runs keras_suite.py once for each engine: a process can load Keras with one engine only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = Path(__file__).with_name("keras_suite.py")
TESTS = 94


def passed(engine: str, *options: str) -> int:
    """Run the suite, or a part of it, and count the tests that passed."""
    roots = (ROOT, ROOT / "backends", ROOT / "adapters")
    paths = os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, SUITE],
        env=os.environ
        | {"KERAS_BACKEND": engine, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    return int(re.findall(r"(\d+) passed", ran.stdout)[-1])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "jax", "torch"])
def test_the_suite_passes_on(engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    assert passed(engine) == TESTS


def test_the_core_of_the_suite_passes_on_the_torch_engine() -> None:
    assert passed("torch", "-k", "residual or output or refused or exception or opened") == 19
