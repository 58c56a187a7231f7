"""The public names are these, and each says what it is."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flain_core

# A name that is added, renamed or removed here is a line in the changelog.
NAMES = [
    "ActivationStatistics",
    "Backend",
    "Cut",
    "DataError",
    "FlainError",
    "FlainWarning",
    "Grid",
    "Layer",
    "LayerError",
    "LayerOutcome",
    "Measurement",
    "ModelError",
    "Network",
    "OutputError",
    "Progress",
    "Promise",
    "Purification",
    "PurifiedArrays",
    "Settings",
    "SettingsError",
    "Step",
    "WeightsError",
    "accuracy",
    "flip",
    "low_activation",
    "match_norm",
    "purify",
    "purify_arrays",
]

# Every package that users import names from.
SURFACES = {
    "flain": sorted([*NAMES, "__version__"]),
    "flain_core": NAMES,
}

# For authors of backends, of adapters and of other engines; all other modules may change.
PUBLIC_MODULES = {
    "flain_core.backend_kit",
    "flain_core.conformance",
    "flain_core.errors",
    "flain_core.federated.coordinator",
    "flain_core.federated.holder",
    "flain_core.federated.merging",
    "flain_core.federated.messages",
    "flain_core.federated.trusted",
    "flain_core.federated.wire",
    "flain_core.local_samples",
    "flain_core.network",
    "flain_core.sample_source",
}

ROOT = Path(__file__).resolve().parents[2]

EXPORTS = [
    (package, name)
    for package, names in SURFACES.items()
    for name in names
    if name != "__version__"  # text, which has no docstring of its own
]


@pytest.mark.parametrize("package", SURFACES)
def test_a_package_exports_these_names(package):
    assert sorted(importlib.import_module(package).__all__) == SURFACES[package]


@pytest.mark.parametrize("package", SURFACES)
def test_a_package_has_no_public_name_beside_those_that_it_exports(package):
    imported = importlib.import_module(package)
    public = {
        name
        for name in dir(imported)
        if not (name.startswith("_") or inspect.ismodule(getattr(imported, name)))
    }
    assert public == {name for name in SURFACES[package] if not name.startswith("_")}


@pytest.mark.parametrize("package", SURFACES)
def test_another_name_is_refused_as_python_refuses_it(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


def test_what_is_loaded_late_is_what_is_exported():
    assert importlib.import_module("flain_core.public").__all__ == flain_core.__all__


@pytest.mark.parametrize("package", SURFACES)
def test_an_import_alone_loads_nothing_and_a_first_name_does(package):
    code = f"""
import sys, {package}
early = [name for name in sys.modules if name.startswith(("flain_core.", "numpy"))]
assert not early, early
assert len(dir({package})) == len(set(dir({package})))
from {package} import *
assert callable(purify) and {package}.purify is purify and "numpy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_type_checkers_know_the_names(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    uses = tmp_path / "uses.py"
    uses.write_text(
        "import flain, flain_core\n"
        "flain.Settings(tolerance=0.01)\n"
        "flain.purfy\n"
        "flain_core.purfy\n"
        "flain.Settings(tolerance='much')\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", str(tmp_path)]
    ran = subprocess.run(
        [*command, "uses.py"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    wrong = re.findall(r"^uses.py:(\d+): error", ran.stdout, re.MULTILINE)
    assert wrong == ["3", "4", "5"], ran.stdout


def test_the_call_is_no_module_whatever_is_imported_before():
    code = """
import flain_core.conformance, flain_core
assert not isinstance(flain_core.purify, type(flain_core)), flain_core.purify
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_an_exported_name_says_what_it_is(package, name):
    value = getattr(importlib.import_module(package), name)
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "what a dataclass writes by itself"


@pytest.mark.parametrize("module", sorted(PUBLIC_MODULES))
def test_a_public_module_lists_what_it_exports(module):
    imported = importlib.import_module(module)
    assert imported.__all__
    assert all(hasattr(imported, name) for name in imported.__all__)


def test_texts_for_users_name_no_other_modules():
    texts = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.py")]
    # Where the reference takes a docstring from, and where a link leads, nobody reads.
    unread = re.compile(r"^::: .*$|\]\([^)]*\)", re.MULTILINE)
    named = {
        (path.name, module)
        for path in texts
        for module in re.findall(
            r"\bflain_core(?:\.[a-z_]+)+", unread.sub("", path.read_text(encoding="utf-8"))
        )
    }
    known = {*PUBLIC_MODULES, *(f"flain_core.{name}" for name in NAMES)}
    assert {(file, module) for file, module in named if module not in known} == set()
