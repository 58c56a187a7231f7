"""Runs cli_keras_suite.py in processes of their own, since each loads Keras with an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from engines import passed

SUITE = Path(__file__).with_name("cli_keras_suite.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed"),
]


@pytest.mark.parametrize("engine", ["tensorflow", "jax", "torch"])
def test_the_command_takes_keras_files_on(engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    assert passed(engine, SUITE) == 17


def test_a_keras_file_is_purified_on_the_torch_engine() -> None:
    pytest.importorskip("torch")
    assert passed("torch", SUITE, part="purified_into_another and not h5") == 1


def test_a_class_of_ones_own_is_named_on_the_torch_engine() -> None:
    pytest.importorskip("torch")
    assert passed("torch", SUITE, part="ones_own_is_named") == 1


def test_an_engine_that_does_not_exist_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"")
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", "layers", tmp_path / "model.keras"],
        env=os.environ | {"KERAS_BACKEND": "abacus"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "abacus" in ran.stderr
    assert "tensorflow, or jax or torch with KERAS_BACKEND set" in ran.stderr
    assert "Traceback" not in ran.stderr
