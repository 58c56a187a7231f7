"""Archives of arrays are judged by what they declare, before anything is allocated."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

import flain_core as flain
from flain_core.auxiliary.samples import Samples
from flain_core.storage.limits import MEMORY, memory_limit
from flain_core.storage.npz import opened

X, Y = np.arange(12.0).reshape(4, 3), np.arange(4)


def header(shape, dtype="<f4"):
    file = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def stored(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zeros(mebibytes):
    return header((mebibytes * 2**18,)) + bytes(mebibytes * 2**20)


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    arrays = {"a": X, "b": np.asfortranarray(X), "c": np.float64(1), "d": X[:0]}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with opened(tmp_path / "a.npz", error=flain.DataError) as found:
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
            assert found[name] is found[name]


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY, "0.01")
    path = archive(tmp_path / "bomb.npz", x=zeros(64), y=stored(Y))
    assert os.path.getsize(path) < 2**17
    tracemalloc.start()
    with pytest.raises(flain.DataError, match=f"bomb.npz asks for .* set {MEMORY}"):
        Samples.of(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_members_count_together(tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY, str(3 / 1024))
    path = archive(tmp_path / "two.npz", x=zeros(2), y=zeros(2))
    with (
        pytest.raises(flain.WeightsError, match="asks for"),
        opened(path, error=flain.WeightsError) as file,
    ):
        assert file["x"].nbytes == 2**21
        file["y"]


def test_a_file_may_always_take_what_it_really_holds(tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY, "1e-9")
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    assert len(Samples.of(tmp_path / "a.npz")) == 4


def test_a_member_that_nobody_needs_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY, "0.001")
    path = archive(tmp_path / "a.npz", unused=zeros(8), x=stored(X), y=stored(Y))
    assert len(Samples.of(path)) == 4


@pytest.mark.parametrize(
    "x",
    [
        header((2**40, 3)) + bytes(24),
        header((2**70,)),
        header((2,)) + bytes(4000),
        header((-4, -3)) + bytes(48),
        b"hello",
        b"",
    ],
)
def test_what_a_member_declares_has_to_be_there(tmp_path, x):
    path = archive(tmp_path / "a.npz", x=x, y=stored(Y))
    with pytest.raises(flain.DataError, match=r"expected .*a\.npz to be an"):
        Samples.of(path)


def test_a_member_that_is_no_array_is_one_clear_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x", "hello")
        file.writestr("y.npy", stored(Y))
    with pytest.raises(flain.DataError, match="cannot be read"):
        Samples.of(tmp_path / "a.npz")


def test_a_changed_member_is_noticed(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(X.tobytes()) + 8] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(flain.DataError, match="CRC"):
        Samples.of(tmp_path / "a.npz")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(flain.DataError, match="regular file"):
        Samples.of(tmp_path / "a.npz")


@pytest.mark.parametrize("given", ["", "0", "-1", "nan", "much"])
def test_a_limit_is_a_number_above_0(given, monkeypatch):
    monkeypatch.setenv(MEMORY, given)
    with pytest.raises(flain.SettingsError, match=MEMORY):
        memory_limit()


def test_the_limit_is_2_gib_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv(MEMORY, raising=False)
    assert memory_limit() == 2 * 2**30
    monkeypatch.setenv(MEMORY, "0.5")
    assert memory_limit() == 2**29
