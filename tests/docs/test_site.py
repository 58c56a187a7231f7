"""The documentation: it builds without a warning, loads nothing, and says what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import doc_pages as pages
import numpy as np
import pytest

from flain_core import Settings
from flain_core.auxiliary.samples import Samples
from flain_core.in_memory.held_back import split
from flain_core.promise import samples_needed

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
sys.path.insert(0, str(ROOT / "benchmarks"))

import readme_figures  # noqa: E402


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(site):
    built = list(site.rglob("*.html"))
    assert len(built) >= len(PAGES)
    pattern = r'<(?:script|link|img|iframe)[^>]*(?:src|href)="((?:https?:)?//[^"]+)"'
    loaded = {
        (page.parent.name, each)
        for page in built
        for each in re.findall(pattern, page.read_text(encoding="utf-8"))
    }
    assert loaded == set()
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?https?:", style.read_text("utf-8"))
    for script in ("pytorch", "keras", "onnx", "scikit-learn", "arrays"):
        shown = (site / "frameworks" / script / "index.html").read_text(encoding="utf-8")
        assert "example.files" in re.sub("<[^>]+>", "", shown), script
        (link,) = re.findall(r'href="\.\./\.\./(examples/\w+\.py)"', shown)
        assert (site / link).read_bytes() == (ROOT / link).read_bytes()


@pytest.mark.slow
def test_notebooks_ran_while_the_site_was_built_and_removed_the_backdoors(site):
    def printed(name):
        html = (site / "notebooks" / name / "index.html").read_text(encoding="utf-8")
        return re.sub("<[^>]+>", "", html)

    before, after, saved = re.findall(r"ACC ([\d.]+)%, ASR ([\d.]+)%", printed("pytorch"))
    assert float(before[1]) > 95
    assert float(after[1]) < 2
    assert float(after[0]) > float(before[0]) - 2
    assert saved == after
    assert (site / "notebooks" / "pytorch.ipynb").exists()
    assert list((site / "notebooks").glob("pytorch-*.png"))
    onnx = printed("onnx")
    assert "example/final.onnx: ASR 100.0%" in onnx
    assert re.search(r"purified\.onnx: ASR [01]\.\d%", onnx)
    assert "passed" in onnx


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES}
    notebooks = {f"notebooks/{each.stem}.md" for each in (ROOT / "docs/notebooks").glob("*.ipynb")}
    assert set(listed) == there | notebooks


def test_the_build_is_strict_and_code_can_be_copied():
    yaml = pytest.importorskip("yaml", reason="the extra docs is not installed")
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    assert settings["strict"] == "true"
    assert settings["theme"]["font"] == "false"
    assert "content.code.copy" in settings["theme"]["features"]
    assert set(settings["validation"].values()) == {"warn"}


def test_the_readme_is_short_and_shows_the_figures_of_the_pages():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("\n") < 120
    assert readme == readme_figures.updated(readme, readme_figures.tables())


def anchors(path):
    """The anchors of the headings of a page, as the site and GitHub write them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_in_the_repository_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 20 or name != "README.md"
    for target in targets:
        if not target.startswith(("https://", "#")):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).exists(), target
            assert not anchor or anchor in anchors(ROOT / path), target


@pytest.mark.parametrize("page", pages.every())
def test_a_script_that_the_site_shows_can_be_reached_in_the_repository(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = {(ROOT / page).parent / each for each in re.findall(r"\]\(([^)#]+)\)", text)}
    for script in re.findall(r'^--8<-- "(examples/.+)"$', text, re.MULTILINE):
        assert ROOT / script in {each.resolve() for each in links}, script


INSTALLS = re.compile(r"pip install (?:-c (?P<constraints>\S+) )?(?P<what>\S*\[[\w,]+\]\S*)")


def test_every_page_installs_from_a_clone_and_one_from_an_index():
    there = [*pages.every(), "examples/flower/README.md", "docs/notebooks/onnx.ipynb"]
    there += ["docs/notebooks/pytorch.ipynb", "benchmarks/defence/README.md"]
    elsewhere = [
        (page, found["what"].strip('"`.\\'))
        for page in there
        for found in INSTALLS.finditer((ROOT / page).read_text(encoding="utf-8"))
        if found["constraints"] != "constraints.txt" or ".[" not in found["what"]
    ]
    assert elsewhere == [("docs/start.md", "flain[torch,onnx,cli,report]")]


def test_pages_that_are_followed_one_after_another_write_no_file_twice():
    """All of them purify the example, in the folder where the reader is."""
    written = []
    for page in pages.every():
        for words in pages.commands(page):
            if "purify" in words and "example/final.onnx" in words:
                options = {"-o", "--report"} & set(words)
                written += [words[words.index(each) + 1] for each in options]
        code = "".join(each.code for each in pages.blocks(page, "python"))
        if "example/final.onnx" in code:
            written += re.findall(r'save\("(.+?)"', code)
    assert len(written) >= 5
    assert len(set(written)) == len(written), written


@pytest.mark.slow
def test_the_readme_and_the_page_on_results_show_what_the_demo_prints():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^ A(?:CC|SR), .*%$", readme, re.MULTILINE)
    assert len(shown) == 2
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-m", "flain_cli", "demo"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    for line in shown:
        assert line.split() in [each.split() for each in printed.stdout.splitlines()], line
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    (promise,) = re.findall(r"^promise: .*$", results, re.MULTILINE)
    assert promise in " ".join(printed.stdout.split())


@pytest.mark.parametrize("page", pages.every())
def test_code_on_a_page_is_python(page):
    for block in pages.shown(page):
        compile(block.code, page, "exec")


def test_the_page_on_settings_says_how_many_samples_a_promise_needs():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) %" + r" \| ([\d,]+)" * 3 + r" \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for share, *counts in rows:
        without, together, with_one = (int(count.replace(",", "")) for count in counts)
        promise = float(share) / 100
        assert (without, with_one) == tuple(samples_needed(promise, 0.95, k) for k in (0, 1))
        asked = Settings(promise=promise).resolved(classify=True, local=True)
        for count in (together - 1, together):
            samples = Samples.of((np.arange(count, dtype=float)[:, None], np.arange(count) % 2))
            _, held_back = split(samples, asked, seed=0)
            assert (len(held_back) >= without) == (count == together)


def test_the_page_on_settings_has_each_setting_with_its_default():
    from dataclasses import fields

    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", text, re.MULTILINE))
    defaults = {each.name: repr(each.default).replace("'", '"') for each in fields(Settings)}
    assert shown == defaults


def test_pictures_are_described():
    for page in pages.every():
        text = (ROOT / page).read_text(encoding="utf-8")
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            assert len(words) > 15 or page == "docs/how-well.md", (page, target)


# --- What builds the site ---


def tool(name, *needed):
    for each in needed:
        pytest.importorskip(each, reason="the extra docs is not installed")
    spec = util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_become_markdown():
    readable = tool("docstrings", "griffe").readable
    text = "See :class:`Network`.\n\n    >>> 1 + 1\n    2\n\nAnd :func:`~flain_core.purify`.\n"
    assert readable(text) == (
        'See <autoref optional identifier="flain_core.Network"><code>Network</code></autoref>.\n\n'
        "    ```pycon\n    >>> 1 + 1\n    2\n    ```\n\n"
        'And <autoref optional identifier="flain_core.purify"><code>purify</code>'
        "</autoref>.\n"
    )


def cell(kind, source, *outputs):
    return SimpleNamespace(cell_type=kind, source=source, outputs=outputs)


def test_a_notebook_becomes_markdown():
    stream = SimpleNamespace(output_type="stream", name="stdout", text="done\n")
    drawn = SimpleNamespace(
        output_type="display_data", data={"image/png": "aGk=", "text/plain": ""}
    )
    value = SimpleNamespace(output_type="execute_result", data={"text/plain": "4"})
    notebook = SimpleNamespace(
        cells=[
            cell("markdown", "# Title"),
            cell("code", "%%bash\nflain demo", stream),
            cell("code", "2 + 2", value, drawn),
        ]
    )
    text, pictures = tool("notebooks", "nbclient", "mkdocs").page(notebook)
    assert text == (
        "# Title\n\n```bash\nflain demo\n```\n\n```text\ndone\n```\n\n"
        "```python\n2 + 2\n```\n\n![What the cell above draws](2.png)\n\n```text\n4\n```\n"
    )
    assert pictures == {"2.png": b"hi"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("%%bash\nflain no-such-command", "CalledProcessError"),
        ("import warnings; warnings.warn('mind')", "stderr"),
    ],
)
def test_a_notebook_that_fails_or_warns_fails_the_build(tmp_path, source, told):
    notebooks = tool("notebooks", "nbclient", "mkdocs", "ipykernel")
    import nbformat
    from mkdocs.exceptions import PluginError

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(made, tmp_path / "bad.ipynb")
    with pytest.raises(PluginError, match=told):
        notebooks.executed(tmp_path / "bad.ipynb")


def test_a_stored_notebook_has_no_outputs():
    """The build makes them, so that they are those of today."""
    import json

    for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        for each in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not each.get("outputs"), path.name
            assert each.get("execution_count") is None, path.name


def test_links_to_scripts_lead_to_the_copies_of_the_site():
    markdown = tool("scripts", "mkdocs").on_page_markdown
    assert markdown("[a](../../examples/b.py)") == "[a](../examples/b.py)"
    assert markdown("[a](../examples/b.py)") == "[a](examples/b.py)"
    assert markdown("[a](../other/b.py)") == "[a](../other/b.py)"


def test_links_to_notebooks_lead_to_pages_and_empty_headers_are_none():
    markdown = tool("notebooks", "nbclient", "mkdocs").on_page_markdown("[a](../notebooks/b.ipynb)")
    assert markdown == "[a](../notebooks/b.md)"
    html = tool("tables").on_page_content('<th></th><th style="a"> </th><th>b</th>')
    assert html == '<td></td><td style="a"></td><th>b</th>'


@pytest.mark.slow
def test_the_pictures_are_drawn_by_the_command(tmp_path):
    pytest.importorskip("matplotlib")
    from drawings import cut, directions, example, federation, search

    for drawing in (cut, directions, example, federation, search):
        drawing.draw(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {"cut.svg", "directions.svg", "example.png", "federation.svg", "search.svg"}
    for path in tmp_path.iterdir():
        stored = (ROOT / "docs" / "figures" / path.name).read_bytes()
        if path.suffix == ".svg":
            # Words and numbers agree; another matplotlib may place them elsewhere.
            words = re.compile(rb"<text[^>]*>(.*?)</text>")
            assert words.findall(path.read_bytes()) == words.findall(stored), path.name
