"""Files of Keras whose authors meant harm, or used an older Keras; see test_keras_hostile.py."""

from __future__ import annotations

import json
import os
import resource
import time
import zipfile
from pathlib import Path
from threading import Event, Thread

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L
from trust.killing import killed_at

import flain_core as flain
import flain_keras
from flain_core.opening import registry
from flain_core.storage.limits import MEMORY, TIME
from flain_keras import _trial
from flain_keras._allowance import allowance

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


def test_hdf5_that_never_ends(h5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIME, "5")
    content = bytearray(h5.read_bytes())
    # The heap of texts says that the next one lies where this one begins.
    at = content.index(b"GCOL") + 24
    content[at : at + 8] = (2**64 - 16).to_bytes(8, "little")
    h5.write_bytes(content)
    before = time.monotonic()
    with pytest.raises(flain.WeightsError, match="does not come to an end"):
        flain_keras.load(h5)
    assert time.monotonic() - before < 30


@pytest.mark.parametrize("where", ["attribute", "dataset"])
def test_one_text_that_comes_very_often(
    h5: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "0.05")
    length, times = 2**19, 2000
    texts = np.array(["a" * length, *("b" for _ in range(times - 1))], object)
    with h5py.File(h5, "a") as file:
        if where == "attribute":
            file.attrs.create("texts", texts, dtype=h5py.string_dtype())
        else:
            file.create_dataset("texts", data=texts, dtype=h5py.string_dtype())
    content = bytearray(h5.read_bytes())
    # Each is its length, the address of a heap, and a place there.
    at = content.index(length.to_bytes(4, "little"), content.index(b"GCOL"))
    while content[at + 16 : at + 20] != (1).to_bytes(4, "little"):
        at = content.index(length.to_bytes(4, "little"), at + 1)
    content[at : at + 16 * times] = content[at : at + 16] * times
    h5.write_bytes(content)
    before = time.monotonic()
    with pytest.raises(flain.WeightsError, match=rf"asks for more memory .* set {MEMORY}"):
        flain_keras.load(h5)
    assert time.monotonic() - before < 60


def test_hdf5_that_crashes(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "crashes.py"
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(_trial, "_PROGRAM", str(program))
    with pytest.raises(flain.WeightsError, match=r"crashes on it \(signal 11\)"):
        flain_keras.load(path)


def test_no_module_comes_from_the_current_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h5py.py").write_text("open('here', 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert flain_keras.load(path).built
    assert not os.path.exists("here")


def redescribed(path: Path, **config: object) -> None:
    """Give the dense layer of a file further options."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            told = json.loads(file.attrs["model_config"])
            told["config"]["layers"][-1]["config"] |= config
            file.attrs["model_config"] = json.dumps(told)
        return
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("config.json"))
    told["config"]["layers"][-1]["config"] |= config
    replaced(path, "config.json", json.dumps(told).encode())


@pytest.mark.parametrize("units", [10**7, 10**12])
def test_a_description_of_an_enormous_layer(path: Path, units: int) -> None:
    redescribed(path, units=units)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(flain.WeightsError, match=rf"asks for .* set {MEMORY}"):
        flain_keras.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**19  # KiB
    # Others make variables as they like, before and after.
    assert keras.Variable(np.zeros((2, 3))).shape == (2, 3)


def test_what_another_thread_makes_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "0.001")
    made = []
    with allowance(2**20, "x"):
        thread = Thread(target=lambda: made.append(keras.Variable(np.zeros((600, 600)))))
        thread.start()
        thread.join()
        with pytest.raises(flain.WeightsError, match="x asks for"):
            keras.Variable(keras.initializers.Zeros(), (600, 600))
    assert len(made) == 1
    assert keras.Variable(keras.initializers.Zeros(), (600, 600)).shape == (600, 600)


def test_two_threads_leave_keras_as_it_was() -> None:
    before = keras.Variable.__init__
    inside, seen = Event(), []

    def first() -> None:
        with allowance(2**20, "x"):
            inside.set()
            time.sleep(0.2)

    def second() -> None:
        inside.wait()
        with allowance(2**20, "y"):
            seen.append(keras.Variable(keras.initializers.Zeros(), (2, 3)).shape)

    threads = [Thread(target=each) for each in (first, second)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert seen == [(2, 3)]
    assert keras.Variable.__init__ is before


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
    truth = registry.open_network(h5).predict(x)
    described(h5, groups=1)
    network = registry.open_network(h5)
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
