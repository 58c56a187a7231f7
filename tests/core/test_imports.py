"""Importing the core is light and opts into nothing."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
import numpy
before = set(sys.modules)
import flain_core
roots = {name.partition('.')[0] for name in set(sys.modules) - before}
print(*sorted(root for root in roots if root not in sys.stdlib_module_names))
"""


def test_the_core_loads_numpy_and_the_standard_library_alone():
    ran = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"flain_core", "numpy"}


def imported(path, module, modules):
    """What a file imports of the product, inside functions and for types too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            up = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (up, node.module)))
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                yield from [name] if name in modules else {origin} & modules.keys()


def test_no_files_import_each_other_in_a_circle():
    modules = {}
    for root in (ROOT, ROOT / "backends", ROOT / "adapters"):
        for path in (each for package in root.glob("flain*") for each in package.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(part for part in parts if part != "__init__")] = path
    assert len(modules) > 150
    graph = {
        module: set(imported(path, module, modules)) - {module} for module, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
