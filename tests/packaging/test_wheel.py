"""The wheel and the sdist are built, checked, installed into clean environments and used."""

import os
import subprocess
import sys
import tarfile
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


pytestmark = pytest.mark.slow

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture
def clean(tmp_path):
    """A way to run programs of a fresh environment."""
    venv.create(tmp_path / "clean", with_pip=True)

    def run(name, *arguments):
        program = tmp_path / "clean" / "bin" / name
        ran = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        return ran.stdout

    return run


def install(run, *what):
    run("python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *what)


def test_the_wheel_holds_the_packages_and_their_files(built):
    wheel, _ = built
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    backends = {"flain_keras", "flain_numpy", "flain_onnx", "flain_sklearn", "flain_torch"}
    adapters = {"flain_cli", "flain_flower", "flain_nvflare", "flain_ray", "flain_report"}
    assert roots == {"flain", "flain_core"} | adapters | backends
    assert {"flain_cli/data/final.npz", "flain_cli/data/final.onnx"} <= set(names)
    assert {f"flain_report/templates/report.{kind}" for kind in ("html.j2", "css", "js")} <= set(
        names
    )


def test_the_sdist_holds_what_the_readme_and_the_site_are_made_of(built):
    _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"README.md", "hatch_build.py", "mkdocs.yml", "docs/start.md", ".ci/address.py"}
    assert needed | {"docs/figures/example.png", "docs/notebooks/pytorch.ipynb"} <= names
    assert not [name for name in names if name.startswith((".venv", "site/", "dist/"))]


@pytest.mark.parametrize("tool", [["twine", "check", "--strict"], ["check_wheel_contents"]])
def test_a_package_index_would_take_them(built, tool):
    pytest.importorskip(tool[0], reason=f"{tool[0]} is not installed")
    files = built if tool[0] == "twine" else built[:1]
    ran = subprocess.run(
        [sys.executable, "-m", *tool, *files], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_wheel_works_in_a_clean_environment(built, clean):
    wheel, _ = built
    install(clean, wheel)
    listed = clean("python", "-m", "pip", "list", "--format=freeze")
    assert {line.partition("==")[0] for line in listed.split()} <= {
        "flain",
        "numpy",
        "pip",
        "setuptools",
    }
    assert "True]" in clean("python", "-c", USE)
    install(clean, f"flain[cli,onnx] @ {wheel.as_uri()}")
    assert "0.0%" in clean("flain", "demo")


def test_the_sdist_works_in_a_clean_environment(built, clean):
    _, sdist = built
    install(clean, f"flain[cli,onnx] @ {sdist.as_uri()}")
    assert "True]" in clean("python", "-c", USE)
    assert "0.0%" in clean("flain", "demo")
