"""A package that is missing is named, with the extra that brings it."""

import os
import subprocess
import sys

import pytest

from flain_core import FlainError, ModelError
from flain_core.extras import needs
from flain_core.opening.known_backends import Backend


@pytest.fixture
def without(tmp_path):
    """Run code in a process that lacks some packages."""

    def run(code, *missing):
        for name in missing:
            (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("package", "missing", "extra"),
    [
        ("flain_flower", "flwr", "flower"),
        ("flain_keras", "h5py", "keras"),
        ("flain_nvflare", "nvflare", "nvflare"),
        ("flain_onnx", "onnx", "onnx"),
        ("flain_ray", "ray", "ray"),
        ("flain_sklearn", "sklearn", "sklearn"),
        ("flain_torch", "torch", "torch"),
    ],
)
def test_a_package_names_what_it_lacks_and_the_extra_that_brings_it(
    package, missing, extra, without
):
    # What comes with a package is missing then as well.
    with_it = {"onnx": ["google"], "h5py": ["keras"]}.get(missing, [])
    ran = without(f"import {package}", missing, *with_it)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(
        f"flain_core.extras.MissingExtraError: {package} needs {missing}, which is not installed: "
        f'pip install "flain[{extra}]", or from a clone pip install ".[{extra}]"'
    )


@pytest.mark.parametrize(
    ("module", "missing", "also"),
    [("flain_onnx", "onnxruntime", ""), ("flain_keras", "tensorflow", ", and an engine: tensor")],
)
def test_what_is_imported_late_is_named_too(module, missing, also, without):
    for needed in ("onnx",) if module == "flain_onnx" else ("keras", "h5py"):
        pytest.importorskip(needed)
    engine = "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'"
    told = without(f"{engine}\nimport {module}", missing).stderr.splitlines()[-1]
    assert f"{module} needs {missing}, which is not installed: pip install" in told
    assert also in told


def test_a_model_whose_framework_is_missing_says_it_once(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text(
        "from flain_core.extras import needs\n"
        "with needs('needy', 'torch', 'no_such_package'):\n    import no_such_package"
    )
    monkeypatch.syspath_prepend(tmp_path)
    backend = Backend("needy", (), (), (), "pip install needy", ())
    with pytest.raises(ModelError) as error:
        backend.load_module()
    assert str(error.value).count("pip install") == 2  # from an index, and from a clone
    assert "needy needs no_such_package, which is not installed" in str(error.value)


def test_what_imports_it_can_catch_it_as_any_missing_module():
    with pytest.raises(ModuleNotFoundError) as error, needs("it", "torch", "no_such_package"):
        import no_such_package  # noqa: F401
    assert error.value.name == "no_such_package"
    assert isinstance(error.value, FlainError)


def test_another_missing_module_is_not_explained_away():
    with pytest.raises(ModuleNotFoundError) as error, needs("it", "torch", "torch"):
        import no_such_package  # noqa: F401
    assert type(error.value) is ModuleNotFoundError
