"""Files of weights, factories and samples that would harm end in one clear error."""

from __future__ import annotations

import os
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import nn

import flain_torch
from flain_core.errors import ModelError, WeightsError
from flain_core.storage.limits import MEMORY


def linear() -> nn.Module:
    return nn.Linear(6, 3)


def bomb(path: Path, mebibytes: int) -> Path:
    """State of :func:`linear` whose bias takes many mebibytes, in an archive of few bytes."""
    plain = path.with_name("plain.pt")
    torch.save(linear().state_dict(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            large = name.endswith("data/1")
            new.writestr(name, bytes(mebibytes * 2**20) if large else old.read(name))
    return path


def test_weights_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY, "0.01")
    path = bomb(tmp_path / "bomb.pt", 64)
    assert os.path.getsize(path) < 2**17
    tracemalloc.start()
    with pytest.raises(WeightsError, match=rf"bomb\.pt asks for .* set {MEMORY}"):
        flain_torch.load(path, linear)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_weights_may_always_take_what_they_really_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "1e-9")
    module = linear()
    for name in ("a.pt", "a.safetensors"):
        flain_torch.save(module, tmp_path / name)
        loaded = flain_torch.load(tmp_path / name, linear)
        assert torch.equal(loaded.state_dict()["weight"], module.state_dict()["weight"])


def test_a_broken_archive_is_one_clear_error(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.pt", 0)
    content = path.read_bytes()
    for damaged in (content[:-30], content[:50], content.replace(b"PK\x01\x02", b"PK\x01\x03")):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"cannot read .*a\.pt"):
            flain_torch.load(path, linear)


def test_a_factory_that_exits_is_one_clear_error(tmp_path: Path) -> None:
    def leaves() -> NoReturn:
        sys.exit(0)

    flain_torch.save(linear(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"without arguments: SystemExit: 0"):
        flain_torch.load(tmp_path / "a.pt", leaves)


@pytest.mark.skipif(np.longdouble == np.float64, reason="this machine has no wider type")
def test_samples_wider_than_torch_knows_are_rounded() -> None:
    network = flain_torch.open_network(linear())
    x = np.random.default_rng(0).standard_normal((4, 6))
    np.testing.assert_array_equal(network.predict(x.astype(np.longdouble)), network.predict(x))


def test_an_archive_on_several_disks_is_one_clear_error(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.pt", 0)
    content = bytearray(path.read_bytes())
    # Its last record says that there are two disks, and so does the one before it.
    end = content.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + bytes(4) + bytes(8) + b"\x02\x00\x00\x00"
    path.write_bytes(bytes(content[:end]) + locator + bytes(content[end:]))
    with pytest.raises(WeightsError, match=r"cannot read .*a\.pt"):
        flain_torch.load(path, linear)
