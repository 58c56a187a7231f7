"""What the files of a release say of it agrees."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def found(pattern, name):
    return re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE).groups()


def test_the_newest_release_is_the_one_that_is_built_and_cited():
    version, date = found(r"^## (\d\S*) – (\d{4}-\d{2}-\d{2})$", "CHANGELOG.md")
    assert found(r'^__version__ = "(.+)"$', "flain_core/__init__.py") == (version,)
    assert found(r"^version: (.+)\ndate-released: (.+)$", "CITATION.cff") == (version, date)
    series = version.rpartition(".")[0]
    assert found(r"^\| (.+)\.x \| yes", "SECURITY.md") == (series,)
