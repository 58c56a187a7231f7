"""The example scripts, run as a user runs them, each in its own process."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    "purify_numpy.py": (),
    "purify_onnx.py": ("onnx", "onnxruntime"),
    "purify_pytorch.py": ("torch",),
    "purify_sklearn.py": ("sklearn",),
    "purify_keras.py": ("keras",),
}
ENGINE = next((name for name in ("tensorflow", "jax", "torch") if find_spec(name)), "")


def shares(printed, name):
    """Before and after, in percent."""
    found = re.search(rf"^{name} +([\d.]+)% -> ([\d.]+)%$", printed, re.MULTILINE)
    assert found, printed
    return float(found[1]), float(found[2])


def run(script, *arguments):
    ran = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": ENGINE, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def test_every_script_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, marks=[pytest.mark.slow] if "keras" in needs else [])
        for script, needs in SCRIPTS.items()
    ],
)
def test_a_backdoor_is_removed(script):
    for package in SCRIPTS[script]:
        if find_spec(package) is None:
            pytest.skip(f"{script} needs {package}")
    printed = run(script)
    accuracy, attack = shares(printed, "ACC"), shares(printed, "ASR")
    assert attack[0] >= 95
    assert attack[1] <= 2
    assert accuracy[0] >= 80
    assert accuracy[0] - accuracy[1] <= 1.5


@pytest.mark.slow
def test_the_three_frameworks_of_the_embedded_example_agree():
    scripts = [
        name
        for name in ("purify_numpy.py", "purify_onnx.py", "purify_pytorch.py")
        if all(map(find_spec, SCRIPTS[name]))
    ]
    assert len({shares(run(name), "ACC") for name in scripts}) == 1


def test_the_onnx_script_writes_the_purified_file(tmp_path):
    pytest.importorskip("onnxruntime")
    from flain_core.opening.registry import open_network

    run("purify_onnx.py", tmp_path / "purified.onnx")
    assert open_network(tmp_path / "purified.onnx").layers()["fc1"].weight.shape == (64, 1568)
