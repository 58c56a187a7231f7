"""Files of Keras whose authors meant harm, or used an older Keras; see test_keras_hostile.py."""

from __future__ import annotations

import json
import os
import resource
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L
from killed import killed_at

import flain_core as flain
import flain_keras
from flain_core.storage.limits import MEMORY

# Keras converts tensors of torch in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.DepthwiseConv2D(3, name="depthwise"),
            L.Flatten(),
            L.Dense(3, name="fc"),
        ]
    )


@pytest.fixture(params=[".keras", ".h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    saved: Path = tmp_path / f"model{request.param}"
    model().save(saved)
    return saved


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    model().save(tmp_path / "model.h5")
    return tmp_path / "model.h5"


def replaced(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, old in (members | {name: b""}).items():
            archive.writestr(each, content if each == name else old)


def test_what_is_honest_is_read_under_the_smallest_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than its weights take, and they lie in the file as they are.
    monkeypatch.setenv(MEMORY, "1e-9")
    assert len(flain_keras.load(path).weights) == 4


def test_an_archive_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "0.01")
    model().save(tmp_path / "model.keras")
    replaced(tmp_path / "model.keras", "unused", bytes(64 * 2**20))
    with pytest.raises(flain.WeightsError, match=rf"asks for .* set {MEMORY}"):
        flain_keras.load(tmp_path / "model.keras")


def spoil(path: Path, how: str) -> None:
    """Change the HDF5 file, alone or in the archive."""
    if path.suffix == ".keras":
        inside = path.with_suffix(".weights.h5")
        with zipfile.ZipFile(path) as archive:
            inside.write_bytes(archive.read("model.weights.h5"))
        spoil(inside, how)
        replaced(path, "model.weights.h5", inside.read_bytes())
        return
    with h5py.File(path, "a") as file:
        if how == "large":
            file.create_dataset("x", (2**40,), "f4", chunks=(2**20,), compression="gzip")
        elif how == "link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == "storage":
            file.create_dataset("x", (8,), "u1", external=[("/etc/passwd", 0, 8)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((8,), "u1")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (8,))
            file.create_virtual_dataset("x", layout)
        else:
            file.create_group("x")["x"] = file["/"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("large", rf"asks for 4,096\.0 GiB .* set {MEMORY}"),
        ("link", "lies in other files"),
        ("storage", "lies in other files"),
        ("virtual", "lies in other files"),
    ],
)
def test_hdf5_that_declares_too_much_or_leads_elsewhere(path: Path, how: str, words: str) -> None:
    spoil(path, how)
    with pytest.raises(flain.WeightsError, match=words):
        flain_keras.load(path)


def test_a_group_in_itself_is_left_again(path: Path) -> None:
    spoil(path, "circle")
    before = time.monotonic()
    assert flain_keras.load(path).built
    assert time.monotonic() - before < 20


def test_a_description_that_nests_without_end(tmp_path: Path) -> None:
    model().save(tmp_path / "model.keras")
    replaced(tmp_path / "model.keras", "config.json", b"[" * 10**6)
    with pytest.raises(flain.WeightsError, match="damaged") as caught:
        flain_keras.load(tmp_path / "model.keras")
    assert len(str(caught.value)) < 500


def described(path: Path, **options: object) -> None:
    """Give the depthwise layer of a file further options, as another Keras may have saved them."""
    with h5py.File(path, "a") as file:
        told = json.loads(file.attrs["model_config"])
        for layer in told["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"] |= options
        file.attrs["model_config"] = json.dumps(told)


def test_a_depthwise_convolution_of_keras_2(h5: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    truth = flain.registry.open_network(h5).predict(x)
    described(h5, groups=1)
    network = flain.registry.open_network(h5)
    np.testing.assert_array_equal(network.predict(x), truth)
    assert list(network.layers()) == ["depthwise", "fc"]
    flain_keras.save(network.native, tmp_path / "new.keras")
    assert type(flain_keras.load(tmp_path / "new.keras").layers[0]) is L.DepthwiseConv2D


@pytest.mark.parametrize("options", [{"groups": 2}, {"of_old": 3}])
def test_other_options_of_other_versions_are_named(h5: Path, options: dict[str, int]) -> None:
    described(h5, **options)
    with pytest.raises(flain.ModelError, match=rf"{next(iter(options))}.*custom_objects"):
        flain_keras.load(h5)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.keras")
    with pytest.raises(flain.WeightsError, match="cannot read"):
        flain_keras.load(tmp_path / "model.keras")


def test_a_kill_at_any_moment_leaves_old_or_new(path: Path, tmp_path: Path) -> None:
    old, new = keras.models.load_model(path), keras.models.load_model(path)
    new.set_weights([1 + each for each in old.get_weights()])
    truths = [model.get_weights()[0] for model in (old, new)]
    out = tmp_path / "out"
    out.mkdir()
    target = out / path.name
    for event in range(200):
        flain_keras.save(old, target, overwrite=True)
        killed = killed_at(event, out, lambda: flain_keras.save(new, target, overwrite=True))
        found = flain_keras.load(target).get_weights()[0]
        assert any(np.array_equal(found, truth) for truth in truths)
        flain_keras.save(new, target, overwrite=True)
        assert os.listdir(out) == [path.name]
        if not killed:
            break
    assert not killed
    assert event > 5
    np.testing.assert_array_equal(found, truths[1])


def test_a_disk_that_is_full(path: Path, tmp_path: Path) -> None:
    saved = keras.models.load_model(path)
    before = path.read_bytes()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        code = 1
        try:
            flain_keras.save(saved, path, overwrite=True)
        except flain.OutputError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before
