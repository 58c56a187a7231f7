"""Runs keras_hostile_suite.py in a process of its own; the engine makes no difference to files."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import passed


@pytest.mark.slow
def test_the_suite_passes() -> None:
    assert passed("torch", Path(__file__).with_name("keras_hostile_suite.py")) == 36
