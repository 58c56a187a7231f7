"""Doctests of flain_keras run on an engine that the other tests load anyway."""

import os
from importlib.util import find_spec

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

collect_ignore = [] if find_spec("keras") else ["flain_keras"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Keras and its engines warn of is no affair of ours."""
    for item in items:
        if "flain_keras" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
