"""The site, built once for all tests that look at it, and a folder to run code in."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers", "nbclient", "ipykernel")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, as ``make site`` builds it."""
    for name in NEEDED:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install '.[docs]'")
    # What this process was set up with may be no engine that a notebook has.
    environment = {k: v for k, v in os.environ.items() if k not in {"KERAS_BACKEND", "MPLBACKEND"}}
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=environment | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
