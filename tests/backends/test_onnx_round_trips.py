"""ONNX files are read, those with data beside them too, and written with one tensor changed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import TensorProto, checker, numpy_helper
from onnx_cases import N, close
from onnx_models import numbers, tensors

import flain_core as flain
from flain_core.errors import ModelError, OutputError, WeightsError
from flain_core.opening.registry import open_network as open_anything
from flain_onnx import OnnxModel, load, open_network, save


def test_only_the_purified_tensor_changes_in_a_file(tmp_path: Path) -> None:
    proto = models.residual()
    onnx.save(proto, tmp_path / "final.onnx")
    network = open_anything(tmp_path / "final.onnx")
    changed = network.replace({"down": -network.layers()["down"].weight})
    assert isinstance(changed.native, OnnxModel)
    save(changed.native, tmp_path / "purified.onnx")
    written = onnx.load(tmp_path / "purified.onnx")
    checker.check_model(tmp_path / "purified.onnx", full_check=True)
    before, after = tensors(proto), tensors(written)
    assert [name for name in before if before[name] != after[name]] == ["down.weight"]
    weights = [each for each in written.graph.initializer if each.name != "down.weight"]
    del written.graph.initializer[:], proto.graph.initializer[2]
    written.graph.initializer.extend(weights)
    assert written.SerializeToString(deterministic=True) == proto.SerializeToString(
        deterministic=True
    )
    close(
        open_network(load(tmp_path / "purified.onnx")).predict(numbers(N, 6)),
        changed.predict(numbers(N, 6)),
    )
    with pytest.raises(OutputError, match="exists already"):
        save(changed.native, tmp_path / "purified.onnx")
    with pytest.raises(OutputError, match=r"expected the suffix .onnx"):
        save(changed.native, tmp_path / "purified.npz")


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose tensors lie in a file in a folder beside it."""
    folder = tmp_path / "from"
    (folder / "data").mkdir(parents=True)
    onnx.save(
        models.mlp(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="data/weights.bin",
        size_threshold=0,
    )
    return folder / "model.onnx"


def test_external_files_are_read_on_demand_and_copied(external: Path, tmp_path: Path) -> None:
    x, inside = numbers(N, 6), open_network(models.mlp())
    network = open_anything(external)
    close(network.predict(x), inside.predict(x))
    layer = network.layers()["fc1"]
    assert np.array_equal(layer.weight, inside.layers()["fc1"].weight)
    cut = network.cut("fc1", x)
    close(cut.tail(cut.output), inside.predict(x))
    changed = network.replace({"fc1": -layer.weight})
    target = tmp_path / "to"
    target.mkdir()
    save(changed.native, target / "purified.onnx")
    data, model = sorted(target.iterdir(), key=lambda path: path.suffix)
    assert re.fullmatch(r"purified\.onnx\.[0-9a-f]{16}\.data", data.name)
    assert model.name == "purified.onnx"
    checker.check_model(target / "purified.onnx", full_check=True)
    before = tensors(onnx.load(external))
    after = tensors(onnx.load(target / "purified.onnx"))
    assert [name for name in before if before[name] != after[name]] == ["fc1.weight"]
    # Nothing but the tensors that still lie outside, each where the format likes it.
    held = onnx.load(target / "purified.onnx", load_external_data=False).graph.initializer
    outside = [each for each in held if each.data_location == TensorProto.EXTERNAL]
    lengths = [len(numpy_helper.to_array(each, str(target)).tobytes()) for each in outside]
    assert data.stat().st_size == sum(64 * -(-each // 64) for each in lengths[:-1]) + lengths[-1]
    truth = inside.replace({"fc1": -layer.weight}).predict(x)
    close(open_anything(target / "purified.onnx").predict(x), truth)
    # Beside the original it has a name of its own all the same.
    save(changed.native, external.parent / "purified.onnx")
    close(open_anything(external.parent / "purified.onnx").predict(x), truth)


def test_a_bare_proto_does_not_know_its_folder(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    with pytest.raises(ModelError, match=r"open the file with flain_onnx.load\(path\)"):
        open_network(proto)


def test_missing_short_and_foreign_external_files_are_refused(external: Path) -> None:
    data = external.parent / "data" / "weights.bin"
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(WeightsError, match="which has 100; the file is damaged"):
        load(external)
    data.unlink()
    with pytest.raises(WeightsError, match="does not exist; keep the model together"):
        load(external)
    outside = external.parents[1] / "outside.bin"
    outside.write_bytes(content)
    data.symlink_to(outside)
    with pytest.raises(WeightsError, match="outside the model's folder"):
        load(external)
    proto = onnx.load(external, load_external_data=False)
    inside = external.parent / "weights.bin"
    inside.write_bytes(content)
    around = f"../{external.parent.name}/weights.bin"
    for location in ("../outside.bin", str(outside), str(inside), around):
        for each in proto.graph.initializer:
            each.external_data[0].value = location
        external.write_bytes(proto.SerializeToString())
        with pytest.raises(WeightsError, match="outside the model's folder"):
            load(external)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    content = models.mlp().SerializeToString()
    garbage = np.random.default_rng(0).bytes(500)
    for damaged in (b"", b"garbage", garbage, content[: len(content) // 2], content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model.onnx: "):
            load(path)
    with pytest.raises(flain.ModelError, match="there is no such file"):
        flain.purify(tmp_path / "none.onnx", initial=path, data=(numbers(3, 6), [0, 1, 2]))
