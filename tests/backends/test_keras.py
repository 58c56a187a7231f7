"""Runs keras_suite.py once for each engine: a process can load Keras with one engine only."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import ENGINES, passed

SUITE = Path(__file__).with_name("keras_suite.py")
TESTS = 123


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_suite_passes_on(engine: str) -> None:
    assert passed(SUITE, engine) == TESTS


def test_the_core_of_the_suite_passes_on_the_torch_engine() -> None:
    chosen = "residual or output or refused or exception or opened"
    assert passed(SUITE, "torch", "-k", chosen) == 23
