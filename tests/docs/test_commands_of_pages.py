"""The commands of the README and of the site exist, and those of flain run."""

import re
from pathlib import Path

import doc_pages as pages
import numpy as np
import pytest
from names_on_pages import FINAL, IN_A_PROCESS, INITIAL, SAMPLES, command, module

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")

pytestmark = pytest.mark.usefixtures("folder")


COMMANDS_ELSEWHERE = {
    "docs/command-line.md": "tests/docs/test_command_line.py",
    "docs/recipes/fedml.md": "tests/docs/test_recipes.py",
    "docs/recipes/model-signing.md": "tests/docs/test_provenance_recipes.py",
}


EXTRAS = set(
    tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)


TARGETS = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(), re.MULTILINE))


def known(words):
    """Whether a command that is not run here can be what it says."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    if words[:2] == ["pip", "install"]:
        named = [each for word in words for each in re.findall(r"^\.\[(.*?)\]$", word)]
        return bool(named) and all(extra in EXTRAS for each in named for extra in each.split(","))
    if words[0] == "make":
        return words[1] in TARGETS
    if words[0] == "python" and words[1] != "-m":
        return (pages.ROOT / words[1]).exists()
    if words[0] == "flwr":
        return words[1] == "run"
    # What Flower starts, tests/adapters/test_flower_deployment.py starts as well.
    return not words or words[0] in {"flain", "export", "flower-superlink", "flower-supernode"}


@pytest.mark.parametrize("page", pages.every())
def test_a_command_is_one_that_there_is(page):
    if page not in COMMANDS_ELSEWHERE:
        assert [words for words in pages.commands(page) if not known(words)] == []


@pytest.mark.parametrize("page", COMMANDS_ELSEWHERE)
def test_another_file_runs_the_commands(page):
    tests = (pages.ROOT / COMMANDS_ELSEWHERE[page]).read_text(encoding="utf-8")
    assert Path(page).stem in tests


FLAIN = [
    page
    for page in pages.every()
    if page not in {*COMMANDS_ELSEWHERE, *IN_A_PROCESS}
    and any(words[0] == "flain" for words in pages.commands(page))
]


@pytest.fixture
def prepared(folder):
    """The files and modules that commands on pages name."""
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    pytest.importorskip("onnxruntime")
    pytest.importorskip("jinja2")
    for name, network in (("initial", INITIAL), ("final", FINAL)):
        save(module(network).state_dict(), folder / f"{name}.safetensors")
    np.savez(folder / "auxiliary.npz", x=SAMPLES[0], y=SAMPLES[1])
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    torch.save(module(INITIAL), package / "model.pt")
    (package / "models.py").write_text(
        "from torch import nn\n\n\ndef make_network():\n    made = nn.Sequential()\n"
        + "".join(
            f"    made.add_module('fc{n}', nn.Linear({width}, {out}))\n"
            + (f"    made.add_module('relu_fc{n}', nn.ReLU())\n" if n < 3 else "")
            for n, (width, out) in enumerate(((12, 10), (10, 7), (7, 3)), start=1)
        )
        + "    return made\n"
    )
    (folder / "my_module.py").write_text(
        "import backdoored\n\n\n"
        "def untrained():\n    return backdoored.networks()[0]\n\n\n"
        "def trained():\n    return backdoored.networks()[1]\n"
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", FLAIN)
def test_the_commands_of_a_page_run(page, prepared):
    if page == "docs/report.md":
        command("demo", "--save-to", "example")
        for name in ("initial.onnx", "final.onnx", "clean.npz"):
            (prepared / name).write_bytes((prepared / "example" / name).read_bytes())
    saved = False
    for words in pages.commands(page):
        if words[0] != "flain":
            continue
        if any("example/" in word for word in words) and not (prepared / "example").exists():
            command("demo", "--save-to", "example")
        saved = bool(command(*words[1:])) or saved
    assert saved
