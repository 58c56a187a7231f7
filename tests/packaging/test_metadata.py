"""What a package index is told, and what it shows."""

import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script(name):
    pytest.importorskip("hatchling")
    spec = util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_into_the_repository_and_pictures_show_themselves():
    shown = script("hatch_build.py").absolute(README, "https://host/flain")
    targets = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(targets) > 20
    assert [each for each in targets if not each.startswith("https://")] == []
    assert "](https://host/flain/blob/main/docs/start.md)" in shown
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", shown)
    relative = picture.removeprefix("https://host/flain/raw/main/")
    # Package indexes show no SVG of a repository: GitHub hands it out as text.
    assert relative.endswith(".png")
    assert (ROOT / relative).exists()


def test_links_elsewhere_stay_as_they_are():
    absolute = script("hatch_build.py").absolute
    for text in ("[a](https://a.b/c)", "[a](#part)", "[a](mailto:a@b.c)", "[a] (b)", "f[0] = (b)"):
        assert absolute(text, "R") == text


def test_the_metadata_is_complete():
    project = tomllib.loads(PROJECT)["project"]
    expected = {"Homepage", "Repository", "Documentation", "Changelog", "Issues", "Security"}
    assert set(project["urls"]) == expected
    assert len(project["keywords"]) >= 5
    topics = {each.partition(" :: ")[0] for each in project["classifiers"]}
    needed = ["Development Status", "Intended Audience", "Operating System"]
    assert topics.issuperset([*needed, "Programming Language", "Topic", "Typing"])
    named = set(re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT))
    workflow = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    assert named == set(re.findall(r'"(3\.\d+)"', workflow))
    assert project["requires-python"] == ">=" + min(named, key=lambda each: int(each[2:]))


def test_classifiers_are_ones_that_package_indexes_know():
    known = pytest.importorskip("trove_classifiers", reason="hatchling brings it").classifiers
    assert set(tomllib.loads(PROJECT)["project"]["classifiers"]) <= known


def test_the_repository_has_one_address():
    address = script(".ci/address.py")
    old = address.address(PROJECT)
    moved = address.moved(PROJECT, "https://github.com/somebody/flain/")
    assert address.address(moved) == "https://github.com/somebody/flain"
    assert "https://github.com/somebody/flain/issues" in moved
    assert address.moved(moved, old) == PROJECT
    with pytest.raises(ValueError, match="begin with"):
        address.address(moved.replace("https://github.com/somebody/flain/issues", "https://a.b"))


def test_a_release_without_an_address_is_stopped(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/address.py").write_bytes((ROOT / ".ci/address.py").read_bytes())
    run = [sys.executable, tmp_path / ".ci/address.py"]

    def asked(*arguments):
        return subprocess.run([*run, *arguments], check=False, capture_output=True, text=True)

    at_example = script(".ci/address.py").moved(PROJECT, "https://flain.example")
    (tmp_path / "pyproject.toml").write_text(at_example)
    assert asked().returncode == 1
    assert asked("https://github.com/somebody/flain").returncode == 0
    assert asked().stdout == "https://github.com/somebody/flain\n"
