"""ONNX files are written under names of ours, both parts of them or none, whatever happens."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import onnx_models as models
import onnxruntime
import pytest
from onnx import TensorProto
from onnx_models import numbers
from trust.killing import killed_at

from flain_core.errors import OutputError, WeightsError
from flain_onnx import files_of, load, open_network, save
from flain_onnx._stored import read


def external(folder: Path, location: str = "weights.bin", weight: float = 1.0) -> Path:
    """A model whose tensors lie in a file beside it, with a weight scaled."""
    folder.mkdir(parents=True, exist_ok=True)
    model = open_network(models.mlp())
    scaled = model.replace({"fc1": weight * model.layers()["fc1"].weight}).native
    path = folder / "model.onnx"
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    options = {"save_as_external_data": True, "location": location, "size_threshold": 0}
    onnx.save(scaled, path, **options)
    return path


def weight_of(path: Path) -> np.ndarray:
    return np.array(open_network(load(path)).layers()["fc1"].weight)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_files_of_a_model_are_named_by_the_folder_that_the_caller_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = external(tmp_path / "from", "beside/weights.bin")
    assert files_of(source) == [source, source.parent / "beside" / "weights.bin"]
    monkeypatch.chdir(tmp_path)
    save(load(source), "out.onnx")
    model, data = files_of("out.onnx")
    assert (str(model), str(data)) == tuple(names(tmp_path)[-2:])
    # Over a link they lie where it leads.
    link = tmp_path / "elsewhere" / "link.onnx"
    link.parent.mkdir()
    link.symlink_to(source)
    assert files_of(link) == [link, source.parent / "beside" / "weights.bin"]
    onnx.save(models.mlp(), tmp_path / "whole.onnx")
    assert files_of("whole.onnx") == [Path("whole.onnx")]


def test_a_disk_that_is_full_is_no_fault_of_the_model(tmp_path: Path) -> None:
    model = load(external(tmp_path / "from"))
    out = tmp_path / "out"
    out.mkdir()
    child = os.fork()
    if not child:
        # Files may not grow beyond that, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        code = 1
        try:
            save(model, out / "out.onnx")
        except OutputError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert names(out) == []


@pytest.mark.parametrize("location", [".ssh/authorized_keys", "report.json", "out.onnx"])
def test_names_that_a_model_has_for_its_files_are_not_obeyed(location: str, tmp_path: Path) -> None:
    source = external(tmp_path / "from", location)
    home = tmp_path / "home"
    home.mkdir()
    (home / "report.json").write_text("mine")
    for overwrite in (False, True):
        save(load(source), home / "out.onnx", overwrite=overwrite)
        data, model, report = names(home)[1], names(home)[0], names(home)[2]
        assert (model, report) == ("out.onnx", "report.json")
        assert data.startswith("out.onnx.")
        assert data.endswith(".data")
        assert len(names(home)) == 3
    assert (home / "report.json").read_text() == "mine"
    np.testing.assert_array_equal(weight_of(home / "out.onnx"), weight_of(source))


def test_only_what_the_tensors_need_is_written(tmp_path: Path) -> None:
    source = external(tmp_path / "from")
    with (source.parent / "weights.bin").open("ab") as file:
        file.write(b"secret" * 100)
    # The same place twice is written once.
    proto = onnx.load(source, load_external_data=False)
    twice = proto.graph.initializer.add()
    twice.CopyFrom(proto.graph.initializer[0])
    twice.name = "twice"
    source.write_bytes(proto.SerializeToString())
    save(load(source), tmp_path / "out.onnx")
    (data,) = tmp_path.glob("*.data")
    assert b"secret" not in data.read_bytes()
    assert data.stat().st_size <= sum(64 * -(-4 * n // 64) for n in (54, 9, 45, 5))


def test_tensors_that_overlap_do_not_multiply(tmp_path: Path) -> None:
    source = external(tmp_path / "from")
    proto = onnx.load(source, load_external_data=False)
    for index in range(40):
        more = proto.graph.initializer.add(name=f"more{index}", data_type=1, dims=[54])
        more.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", 4 * index), ("length", 216)):
            more.external_data.add(key=key, value=str(value))
    source.write_bytes(proto.SerializeToString())
    with pytest.raises(WeightsError, match="overlap"):
        save(load(source), tmp_path / "out.onnx")
    assert names(tmp_path) == ["from", "from/model.onnx", "from/weights.bin"]


def test_tensors_in_every_corner_come_along(tmp_path: Path) -> None:
    source = external(tmp_path / "from")
    proto = onnx.load(source, load_external_data=False)
    place = proto.graph.initializer[0]
    body = onnx.helper.make_graph([], "body", [], [], [place])
    node = onnx.helper.make_node("Constant", [], ["unused"], value=place)
    loop = onnx.helper.make_node("If", ["c"], ["unused2"], then_branch=body, else_branch=body)
    sparse = onnx.helper.make_sparse_tensor(place, place, [1])
    node.attribute.append(onnx.helper.make_attribute("s", sparse))
    proto.functions.append(
        onnx.helper.make_function("own", "F", [], ["unused"], [node, loop], proto.opset_import)
    )
    proto.training_info.add().algorithm.initializer.append(place)
    source.write_bytes(proto.SerializeToString())
    save(load(source), tmp_path / "out.onnx")
    assert b"weights.bin" not in (tmp_path / "out.onnx").read_bytes()


def test_an_external_file_of_the_model_is_not_overwritten(tmp_path: Path) -> None:
    source = external(tmp_path / "from", "out.onnx")
    before = (source.parent / "out.onnx").read_bytes()
    with pytest.raises(OutputError, match="an external file of the model is called that"):
        save(load(source), source.parent / "out.onnx", overwrite=True)
    assert (source.parent / "out.onnx").read_bytes() == before


def test_data_that_is_no_longer_needed_goes_when_the_model_is_replaced(tmp_path: Path) -> None:
    old, new = external(tmp_path / "old"), external(tmp_path / "new", weight=2.0)
    out = tmp_path / "out"
    out.mkdir()
    save(load(old), out / "out.onnx")
    first = names(out)
    mine = out / "out.onnx.mine.data"
    mine.write_text("mine")
    save(load(new), out / "out.onnx", overwrite=True)
    assert len(names(out)) == 3
    assert names(out)[0] == first[0]
    assert mine.read_text() == "mine"
    np.testing.assert_array_equal(weight_of(out / "out.onnx"), weight_of(new))
    # A model written over itself still reads what it was opened from.
    opened = load(out / "out.onnx")
    changed = open_network(opened).replace({"fc1": numbers(9, 6)}).native
    for _ in range(2):
        save(changed, out / "out.onnx", overwrite=True)
        np.testing.assert_array_equal(weight_of(out / "out.onnx"), numbers(9, 6))
    np.testing.assert_array_equal(open_network(opened).layers()["fc1"].weight, weight_of(new))


def test_data_is_as_private_as_the_model_that_it_belongs_to(tmp_path: Path) -> None:
    source = external(tmp_path / "from")
    (tmp_path / "out.onnx").write_text("old")
    (tmp_path / "out.onnx").chmod(0o600)
    save(load(source), tmp_path / "out.onnx", overwrite=True)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("out.onnx*")}
    assert modes == {0o600}


def test_large_tensors_lie_beside_a_model_whose_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = open_network(load(external(tmp_path / "from"))).replace({"fc1": numbers(9, 6)})
    x = numbers(7, 6, seed=1)
    for largest, inside in ((2**20, {"fc1.weight"}), (9 * 6 * 4, set())):
        monkeypatch.setattr("flain_onnx._external._BESIDE_FROM", largest)
        path = tmp_path / f"{largest}.onnx"
        save(changed.native, path)
        proto = onnx.load(path, load_external_data=False)
        own = {each.name for each in proto.graph.initializer if not each.data_location}
        assert own == inside
        assert proto.graph.initializer[0].data_type == TensorProto.FLOAT
        np.testing.assert_array_equal(weight_of(path), numbers(9, 6))
        (scores,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
        np.testing.assert_allclose(scores, changed.predict(x), rtol=1e-5, atol=1e-6)
    # A model that lies in one file stays there, unless no file could hold it.
    whole = tmp_path / "whole.onnx"
    save(models.mlp(), whole)
    assert files_of(whole) == [whole]
    monkeypatch.setattr("flain_onnx._external._MOST_INSIDE", 9 * 6 * 4 - 1)
    save(models.mlp(), tmp_path / "divided.onnx")
    assert len(files_of(tmp_path / "divided.onnx")) == 2
    np.testing.assert_array_equal(weight_of(tmp_path / "divided.onnx"), weight_of(whole))


def test_what_an_external_tensor_holds_besides_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flain_onnx._external._BESIDE_FROM", 0)
    model = load(external(tmp_path / "from"))
    for tensor in model.proto.graph.initializer:
        tensor.raw_data = bytes(8)
    save(model, tmp_path / "model.onnx")
    np.testing.assert_array_equal(
        weight_of(tmp_path / "model.onnx"), weight_of(tmp_path / "from" / "model.onnx")
    )


def test_external_tensors_are_read_once_for_all_that_differ_from_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = open_network(load(external(tmp_path / "from")))
    counted = Mock(side_effect=read)
    monkeypatch.setattr("flain_onnx._network.read", counted)
    weights = {name: layer.weight for name, layer in network.layers().items()}
    for number in range(3):
        candidate = network.replace({"fc1": numbers(9, 6, seed=number)})
        np.testing.assert_array_equal(candidate.layers()["fc2"].weight, weights["fc2"])
    assert sorted(call.args[0].name for call in counted.call_args_list) == sorted(
        ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    )


def test_a_failed_write_leaves_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = external(tmp_path / "from")

    out = tmp_path / "out"
    out.mkdir()
    links = os.link

    def only_data(old: Path, new: Path) -> None:
        if new.suffix == ".onnx":
            raise FileExistsError
        links(old, new)

    monkeypatch.setattr(os, "link", only_data)
    with pytest.raises(OutputError, match="appeared"):
        save(load(source), out / "out.onnx")
    assert names(out) == []


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_a_kill_at_any_moment_leaves_old_or_new_and_the_next_run_nothing_stray(
    there: bool, tmp_path: Path
) -> None:
    old, new = external(tmp_path / "old"), external(tmp_path / "new", weight=2.0)
    before, after, model = weight_of(old), weight_of(new), load(new)
    outcomes = set()
    for event in range(200):
        out = tmp_path / f"out{event}"
        out.mkdir()
        target = out / "out.onnx"
        if there:
            save(load(old), target)
        was_killed = killed_at(event, out, lambda path=target: save(model, path, overwrite=there))
        if target.exists():
            found = weight_of(target)
            outcomes.add("old" if np.array_equal(found, before) else "new")
            assert np.array_equal(found, before if outcomes == {"old"} else after)
            # Nothing stands in its name but the whole model.
            open_network(load(target)).predict(numbers(3, 6))
        else:
            assert not there
            outcomes.add("none")
        save(model, target, overwrite=True)
        assert np.array_equal(weight_of(target), after)
        assert len(names(out)) == 2, names(out)
        if not was_killed:
            break
    assert event > 12
    assert not was_killed
    assert outcomes == {"old" if there else "none", "new"}
