"""Runs suites once for each engine: a process can load Keras with one engine only."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import ENGINES, passed

SUITES = tuple(
    Path(__file__).with_name(f"keras_{name}_suite.py")
    for name in ("arrays", "copies", "cuts", "example", "files", "layers", "opening")
)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_all_suites_pass_on(engine: str) -> None:
    assert passed(engine, *SUITES) == 126


def test_the_core_of_the_suites_passes_on_the_torch_engine() -> None:
    part = "residual or output or refused or exception or opened"
    assert passed("torch", *SUITES, part=part) == 24
