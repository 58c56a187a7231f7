"""The wheel is built, installed into a clean environment and used from there."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

USE = """
import flain, flain_numpy, numpy as np, sys
from pathlib import Path
assert 'site-packages' in flain.__file__, flain.__file__
assert (Path(flain.__file__).parent / 'py.typed').exists()
initial = flain_numpy.Network([flain_numpy.Dense('scores', np.eye(2, 3))])
final = initial.replace({'scores': np.array([[1.0, 0, -9], [0, 1, 9]])})
x = np.array([[1.0, 0.2, 0.0], [0.2, 0.9, 0.0]])
result = flain.purify(final, initial=initial, data=(x, np.array([0, 1])))
print(result.layers[0].flipped.tolist())
assert not {'torch', 'typer', 'rich'} & set(sys.modules)
assert flain.__version__
"""


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    backends = {"flain_keras", "flain_numpy", "flain_onnx", "flain_sklearn", "flain_torch"}
    adapters = {"flain_cli", "flain_flower", "flain_nvflare", "flain_ray", "flain_report"}
    assert roots == {"flain", "flain_core"} | adapters | backends
    assert {"flain_cli/data/final.npz", "flain_cli/data/final.onnx"} <= set(names)
    assert {f"flain_report/templates/report.{kind}" for kind in ("html.j2", "css", "js")} <= set(
        names
    )

    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*command):
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
        ).stdout

    run(*install, wheel)
    listed = run(python, "-m", "pip", "list", "--format=freeze")
    assert {line.partition("==")[0] for line in listed.split()} <= {
        "flain",
        "numpy",
        "pip",
        "setuptools",
    }
    assert "True]" in run(python, "-c", USE)
    run(*install, f"flain[cli,onnx] @ {wheel.as_uri()}")
    assert "0.0%" in run(tmp_path / "clean" / "bin" / "flain", "demo")
