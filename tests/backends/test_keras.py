"""Runs keras_suite.py once for each engine: a process can load Keras with one engine only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from engines import passed

SUITE = Path(__file__).with_name("keras_suite.py")
TESTS = 104


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "jax", "torch"])
def test_the_suite_passes_on(engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    assert passed(SUITE, engine) == TESTS


def test_the_core_of_the_suite_passes_on_the_torch_engine() -> None:
    chosen = "residual or output or refused or exception or opened"
    assert passed(SUITE, "torch", "-k", chosen) == 20
