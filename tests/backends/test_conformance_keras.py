"""Runs keras_conformance.py once for each engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import ENGINES, passed

SUITE = Path(__file__).with_name("keras_conformance.py")
# Each suite adds two tests to its checks: that they are all, and that no exception is idle.
CHANNELS_LAST = 160 + 2
BOTH_LAYOUTS = 2 * CHANNELS_LAST


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_backend_conforms_on(engine: str) -> None:
    assert passed(engine, SUITE) == (BOTH_LAYOUTS if engine == "torch" else CHANNELS_LAST)


@pytest.mark.slow
def test_residual_networks_conform_on_the_torch_engine() -> None:
    assert passed("torch", SUITE, part="TestKeras and residual and not ChannelsFirst") == 20
