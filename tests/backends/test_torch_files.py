"""State dicts and files open as the PyTorch module that they fit, and others are refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_models as models
from torch import nn
from torch_cases import fingerprint, tied
from torch_threads import one_thread  # noqa: F401

from flain_core.errors import ModelError, OutputError, WeightsError
from flain_torch import load, open_network, save


def test_a_state_dict_opens_like_a_module() -> None:
    final, initial = models.mlp(), models.mlp()
    arrays = {name: tensor.numpy() for name, tensor in initial.state_dict().items()}
    wrapped = nn.DataParallel(initial).state_dict()
    for weights in (initial.state_dict(), arrays, wrapped):
        network = open_network(weights, like=final)
        assert fingerprint(network.native) == fingerprint(initial)
    assert fingerprint(final) != fingerprint(initial)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.bias"), r'Missing key\(s\) in state_dict: "0.bias"'),
        (lambda w: w.update(extra=torch.ones(1)), 'Unexpected key.*"extra"'),
        (lambda w: w.update({"0.bias": torch.ones(3)}), "size mismatch for 0.bias"),
        (lambda w: w.update({"0.bias": "text"}), "expected a tensor for '0.bias'"),
        (lambda w: w.update({3: torch.ones(1)}), "got the name 3"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(
    change: Callable[[dict[Any, Any]], Any], message: str
) -> None:
    final = models.mlp()
    weights = dict(deepcopy(final.state_dict()))
    change(weights)
    before = fingerprint(final)
    with pytest.raises(WeightsError, match=message):
        open_network(weights, like=final)
    assert fingerprint(final) == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("build", [models.cnn, tied])
def test_files_round_trip(tmp_path: Path, suffix: str, build: Callable[[], nn.Module]) -> None:
    model, path = build(), tmp_path / f"model{suffix}"
    save(model, path)
    assert fingerprint(load(path, build)) == fingerprint(model)
    with pytest.raises(OutputError, match="exists already"):
        save(model, path)
    save(model, path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_are_looked_into(tmp_path: Path, key: str) -> None:
    model, path = models.mlp(), tmp_path / "checkpoint.pt"
    torch.save({key: nn.DataParallel(model).state_dict(), "epoch": 3}, path)
    assert fingerprint(load(path, models.mlp)) == fingerprint(model)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="suffix"):
        save(models.mlp(), tmp_path / "model.bin")
    with pytest.raises(WeightsError, match="suffix"):
        load(tmp_path / "model.bin", models.mlp)
    with pytest.raises(WeightsError, match="no such file"):
        load(tmp_path / "model.pt", models.mlp)
    assert not list(tmp_path.iterdir())


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("writer", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_nothing_is_ever_unpickled(tmp_path: Path, writer: Callable[[Any, Path], Any]) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "executed"
    writer({"0.weight": Malicious(proof)}, path)
    with pytest.raises(WeightsError, match="never unpickled") as caught:
        load(path, models.mlp)
    assert caught.value.__cause__ is not None
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.97])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"model{suffix}"
    save(models.cnn(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="damaged"):
        load(path, models.cnn)


def test_files_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save(models.cnn(), path)
    with pytest.raises(WeightsError, match=r"model\.pt: the weights do not fit the Sequential"):
        load(path, models.mlp)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="got a list"):
        load(tmp_path / "list.pt", models.mlp)
    with pytest.raises(ModelError, match="without arguments"):
        load(path, lambda size: models.mlp())
    with pytest.raises(ModelError, match="got an int"):
        load(path, lambda: 3)
