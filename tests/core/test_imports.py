"""Importing the core is light and opts into nothing."""

import subprocess
import sys

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
