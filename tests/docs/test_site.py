"""The documentation: it builds without a warning, its code runs, and what is public is in it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import backdoored
import pytest

import flain

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
sys.path.insert(0, str(ROOT / "benchmarks"))

import readme_figures  # noqa: E402


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    pattern = r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]+)"'
    for page in pages:
        loaded = re.findall(pattern, page.read_text())
        assert [each for each in loaded if "canonical" not in each] == []
    for script in ("pytorch", "keras", "onnx", "scikit-learn", "arrays"):
        assert "purify" in (shown := (tmp_path / "frameworks" / script / "index.html").read_text())
        assert "example.files" in re.sub("<[^>]+>", "", shown), script
    reference = (tmp_path / "api" / "index.html").read_text()
    for name in set(flain.__all__) - {"__version__"}:
        assert f'id="flain_core.{name}"' in reference, name


def test_the_readme_is_short_and_shows_the_figures_of_the_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("\n") < 120
    page = (ROOT / "docs" / "how-well.md").read_text(encoding="utf-8")
    assert readme == readme_figures.updated(readme, page)


def test_links_of_the_readme_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", readme)
    assert len(targets) > 10
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def python_blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [inspect.cleandoc(block) for block in blocks if "--8<--" not in block]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_on_a_page_is_python(page):
    for block in python_blocks(page):
        compile(block, str(page), "exec")


def test_what_is_typed_first_runs(tmp_path, monkeypatch):
    """The blocks of the first pages, on a model with a backdoor."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    initial, model = backdoored.networks()
    x, y = backdoored.samples(300, seed=11)
    names = {"model": model, "initial_model": initial, "x": x, "y": y}
    subprocess.run(
        [sys.executable, "-m", "flain_cli", "demo", "--save-to", "example"], check=True,
        capture_output=True,
    )  # fmt: skip
    for page in ("start.md", "results.md"):
        for block in python_blocks(ROOT / "docs" / page):
            block = block.replace(".safetensors", f"-{page}.npz")
            exec(compile(block, page, "exec"), {"flain": flain, **names})


@pytest.mark.parametrize("name", flain.__all__)
def test_what_is_public_is_documented(name):
    thing = getattr(flain, name)
    assert (inspect.getdoc(thing) or "").strip(), name
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if callable(value) and not member.startswith("_"):
                assert (inspect.getdoc(value) or "").strip(), f"{name}.{member}"
