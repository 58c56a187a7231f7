"""Runs two suites once for each engine: a process can load Keras with one engine only."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import ENGINES, passed

MODELS, ARRAYS = (
    Path(__file__).with_name(name) for name in ("keras_suite.py", "keras_arrays_suite.py")
)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("suite", "tests"), [(MODELS, 117), (ARRAYS, 6)])
def test_a_suite_passes_on(suite: Path, tests: int, engine: str) -> None:
    assert passed(suite, engine) == tests


def test_the_core_of_the_suite_passes_on_the_torch_engine() -> None:
    chosen = "residual or output or refused or exception or opened"
    assert passed(MODELS, "torch", "-k", chosen) == 23
