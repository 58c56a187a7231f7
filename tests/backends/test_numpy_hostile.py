"""Networks in files whose authors meant harm end in one clear error, and cost little."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import flain_core as flain
import flain_numpy as fn
from flain_core.storage.limits import MEMORY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = fn.Network(
        [
            fn.Conv2d("conv", np.ones((2, 1, 3, 3), np.float32), padding=1),
            fn.Flatten(),
            fn.Dense("fc", np.ones((2, 128), np.float32)),
        ]
    )
    fn.save(network, tmp_path / "network.npz")
    return tmp_path / "network.npz"


def with_member(path: Path, name: str, mebibytes: int) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(mebibytes * 2**20))


def redescribed(path: Path, old: str, new: str) -> None:
    arrays = dict(np.load(path))
    told = str(arrays["network"])
    assert old in told
    arrays["network"] = np.array(told.replace(old, new))
    np.savez(path, **arrays)


def test_a_member_that_nobody_needs_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "0.01")
    with_member(path, "unused.npy", 64)
    assert os.path.getsize(path) < 2**18
    assert list(fn.load(path).layers()) == ["conv", "fc"]


def test_a_member_that_unpacks_to_too_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = dict(np.load(path)) | {"2.weight": np.zeros((2, 2**23), np.float32)}
    assert arrays.keys() == np.load(path).keys()
    np.savez_compressed(path, **arrays)
    assert os.path.getsize(path) < 2**18
    assert fn.load(path).layers()["fc"].neurons == 2**23
    monkeypatch.setenv(MEMORY, "0.01")
    with pytest.raises(flain.WeightsError, match=rf"asks for .* set {MEMORY}"):
        fn.load(path)


@pytest.mark.parametrize("padding", [20_000, 10**12])
def test_padding_that_no_image_needs(path: Path, padding: int) -> None:
    redescribed(path, '"padding": 1', f'"padding": [{padding}, {padding}]')
    network = fn.load(path)
    with pytest.raises(flain.ModelError, match="padding: expected at most"):
        network.predict(np.ones((4, 1, 8, 8), np.float32))


def test_padding_of_a_wide_kernel_on_a_small_image_is_honest() -> None:
    weight = np.ones((1, 1, 3, 3), np.float32)
    atrous = fn.Conv2d("c", weight, padding=36, dilation=36)
    assert atrous(np.ones((1, 1, 4, 4), np.float32)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("nest", ["[", '{"a":'])
def test_a_description_that_nests_without_end(path: Path, nest: str) -> None:
    arrays = dict(np.load(path)) | {"network": np.array(nest * 200_000)}
    np.savez(path, **arrays)
    with pytest.raises(flain.WeightsError, match="cannot read"):
        fn.load(path)
