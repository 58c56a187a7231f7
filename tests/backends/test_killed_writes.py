"""Whatever ends a run, a file is old or new, and the next run finds nothing stray."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from trust.killing import killed_at

import flain_numpy as fn
from flain_core.errors import OutputError

Save: TypeAlias = Callable[..., None]


def numpy_save(path: Path, number: float, **options: bool) -> None:
    fn.save(fn.Network([fn.Dense("fc", np.full((300, 40), number))]), path, **options)


def torch_save(path: Path, number: float, **options: bool) -> None:
    import torch

    import flain_torch

    module = torch.nn.Linear(40, 300, bias=False)
    with torch.no_grad():
        module.weight.fill_(number)
    flain_torch.save(module, path, **options)


def onnx_save(path: Path, number: float, **options: bool) -> None:
    import onnx_models as models

    import flain_onnx

    network = flain_onnx.open_network(models.mlp())
    weight = np.full((9, 6), number, np.float32)
    flain_onnx.save(network.replace({"fc1": weight}).native, path, **options)


SAVES: dict[str, tuple[str, Save]] = {
    ".npz": ("numpy", numpy_save),
    ".pt": ("torch", torch_save),
    ".safetensors": ("safetensors", torch_save),
    ".onnx": ("onnx", onnx_save),
}


@pytest.fixture(params=SAVES)
def saves(request: pytest.FixtureRequest) -> tuple[str, Save]:
    package, save = SAVES[request.param]
    pytest.importorskip(package)
    return request.param, save


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("there", [False, True])
def test_a_kill_at_any_moment(saves: tuple[str, Save], there: bool, tmp_path: Path) -> None:
    suffix, save = saves
    wanted = {}
    for number in (1.0, 2.0):
        folder = tmp_path / str(number)
        folder.mkdir()
        save(folder / f"a{suffix}", number)
        wanted[number] = (folder / f"a{suffix}").read_bytes()
    seen = set()
    for event in range(100):
        folder = tmp_path / f"at {event}"
        folder.mkdir()
        path = folder / f"a{suffix}"
        if there:
            save(path, 1.0)
        was_killed = killed_at(event, folder, partial(save, path, 2.0, overwrite=there))
        found = content(path)
        assert found in ((wanted[1.0] if there else None), wanted[2.0])
        seen.add(found == wanted[2.0])
        save(path, 2.0, overwrite=True)
        assert os.listdir(folder) == [path.name]
        assert content(path) == wanted[2.0]
        if not was_killed:
            break
    assert not was_killed
    assert seen == {False, True}


def test_a_disk_that_is_full(saves: tuple[str, Save], tmp_path: Path) -> None:
    suffix, save = saves
    path = tmp_path / f"a{suffix}"
    save(path, 1.0)
    old = path.read_bytes()
    child = os.fork()
    if not child:
        # Files may not grow beyond that, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        code = 1
        try:
            save(path, 2.0, overwrite=True)
        except OutputError as error:
            code = 7 if str(path) in str(error) else 8
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == old


def test_a_disk_that_is_full_when_it_is_synced(
    saves: tuple[str, Save], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    suffix, save = saves
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save(tmp_path / f"a{suffix}", 1.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_a_file_is_moved(
    saves: tuple[str, Save], error: type[BaseException], tmp_path: Path, monkeypatch: Any
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    suffix, save = saves
    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(error):
        save(tmp_path / f"a{suffix}", 1.0)
    assert os.listdir(tmp_path) == []
