"""Runs keras_suite.py once for each engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from keras_engines import ENGINES, passed

SUITE = Path(__file__).with_name("keras_suite.py")
TESTS = 88


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_suite_passes_on(engine: str) -> None:
    assert passed(SUITE, engine) == TESTS


def test_the_core_of_the_suite_passes_on_the_torch_engine() -> None:
    options = "-k", "residual or output or refused or exception or opened"
    assert passed(SUITE, "torch", *options) == 19
