"""The command on ONNX files; cli_keras_suite.py has Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from weights_agree import assert_weights_agree

import flain_core as flain
from flain_cli import example
from flain_cli.app import app
from flain_core.opening.registry import open_network
from flain_core.provenance import purified_before

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def files(tmp_path):
    return example.copy_to(tmp_path, ".onnx")


def purify(files, *options, final=None, initial=None, data=None, output="purified.onnx"):
    given = (final or files.paths[1], initial or files.paths[0], data or files.paths[2])
    named = ("--initial", given[1], "--data", given[2], "-o", files.folder / output)
    return invoke("purify", given[0], *named, *options)


@cache
def flipped_of_the_example():
    result, _ = example.purify(example.files(".npz"))
    return f"{int(result.layers[0].flipped.sum())}/1568"


# Commands


def test_layers_of_an_onnx_file(files):
    ran = invoke("layers", files.paths[1])
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.output.splitlines()]
    assert ["fc1", "dense", "64", "×", "1568", "1", "1568"] in rows
    assert ["conv2", "conv", "32", "×", "16", "×", "3", "×", "3", "1", "16"] in rows


def test_layers_names_those_that_cannot_be_purified(files):
    path = files.paths[1]
    shared(path)
    ran = invoke("layers", path)
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.output.splitlines()]
    assert [row[0] for row in rows if "×" in row] == ["conv1", "conv2", "fc2"]
    reason = "its weight 'fc1.weight' is used elsewhere in the model too, so a change would reach"
    assert f"fc1 cannot be purified: {reason}" in ran.output

    model = onnx.load(path)
    for name in ("conv1", "conv2", "fc2"):
        model.graph.output.append(models.value(f"{name}.weight"))
    onnx.save(model, path)
    ran = invoke("layers", path)
    assert ran.exit_code == 0, ran.output
    told = [line.partition(" cannot be purified: its weight ") for line in ran.output.splitlines()]
    assert [name for name, because, _ in told if because] == ["conv1", "conv2", "fc1", "fc2"]
    assert "input neurons" not in ran.output
    ran = purify(files)
    assert isinstance(ran.exception, flain.FlainError)


def test_layers_of_a_model_without_any(tmp_path):
    nodes = [models.node("Relu", ["x"], ["scores"])]
    ends = [[models.value(name, "n", 5)] for name in ("x", "scores")]
    onnx.save(models.model(nodes, *ends), tmp_path / "model.onnx")
    ran = invoke("layers", tmp_path / "model.onnx")
    assert ran.exit_code == 0, ran.output
    assert ran.output == "the model has no fully connected or convolutional layer\n"


def test_purify_says_which_layers_a_group_left_out(files):
    for path in files.paths[:2]:
        shared(path)
    ran = purify(files, "--layer", "dense", "--tolerance", 0.5)
    assert ran.exit_code == 0, ran.output
    said = " ".join(ran.output.split())
    assert "note: 'fc1' was left out, as it cannot be purified: its weight 'fc1.weight'" in said


def test_an_onnx_file_is_purified_into_another(files):
    final, purified = files.paths[1], files.folder / "purified.onnx"
    report = files.folder / "report.json"
    trigger = f"ASR={files.paths[4]}"
    ran = purify(files, "--trigger", trigger, "--report", report)
    assert ran.exit_code == 0, ran.output
    expected, _ = example.purify(example.files(".npz"))
    told = json.loads(report.read_text())
    assert told["layers"][0]["flipped"] == np.flatnonzero(expected.layers[0].flipped).tolist()
    assert told["after"]["probes"]["ASR"] <= 0.01
    assert set(told["files"]) == {str(files.paths[at]) for at in (0, 1, 2, 4)}
    assert {"onnx", "onnxruntime"} <= set(told["versions"])
    before, after = (models.tensors(onnx.load(path)) for path in (final, purified))
    assert [name for name in before if before[name] != after[name]] == ["fc1.weight", "fc1.bias"]
    onnx.checker.check_model(purified, full_check=True)
    assert_weights_agree(
        open_network(purified).layers()["fc1"].weight, expected.model.layers()["fc1"].weight
    )


def test_every_file_that_is_written_is_named(files, monkeypatch):
    for path in files.paths[:2]:
        model, beside = onnx.load(path), f"{path.name}.weights"
        onnx.save(model, path, save_as_external_data=True, location=beside, size_threshold=0)
    monkeypatch.chdir(files.folder)
    before = set(files.folder.iterdir())
    ran = invoke(
        *("purify", "final.onnx", "--initial", "initial.onnx", "--data", "auxiliary.npz"),
        *("-o", "purified.onnx", "--json"),
    )
    assert ran.exit_code == 0, ran.output
    new = sorted(path.name for path in set(files.folder.iterdir()) - before)
    assert len(new) == 2
    assert json.loads(ran.stdout)["written"] == new
    ran = purify(files, output="again.onnx")
    told = [line for line in ran.output.splitlines() if line.startswith("wrote ")]
    assert told == [f"wrote {path}" for path in sorted(files.folder.glob("again.onnx*"))]
    assert len(told) == 2


def test_the_installed_command_purifies_an_onnx_file(files):
    command = Path(sys.executable).with_name("flain")
    if not command.exists():
        pytest.skip("flain is not installed, only importable")
    initial, final, auxiliary, *_ = files.paths
    ran = subprocess.run(
        [command, "purify", final, "--initial", initial, "--data", auxiliary, "-o", "out.onnx"],
        cwd=files.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert flipped_of_the_example() in ran.stdout
    assert "wrote out.onnx" in ran.stdout
    assert open_network(files.folder / "out.onnx").layers()["fc1"].neurons == 1568


def test_initial_and_final_may_come_in_different_formats(files):
    ran = purify(files, initial=example.files(".npz").paths[0])
    assert ran.exit_code == 0, ran.output
    assert flipped_of_the_example() in ran.output


def test_the_scores_are_chosen_among_several_outputs(files):
    for path in files.paths[:2]:
        model = onnx.load(path)
        last = model.graph.node[-1]
        model.graph.output.append(models.value(last.input[0], "n", 64))
        last.output[0] = model.graph.output[0].name = "y"
        onnx.save(model, path)
    ran = purify(files)
    assert isinstance(ran.exception, flain.ModelError)
    assert "cannot tell which output holds the scores" in str(ran.exception)
    assert "--scores" in str(ran.exception)
    assert not (files.folder / "purified.onnx").exists()
    ran = purify(files, "--scores", "Y")
    assert "Did you mean 'y'" in str(ran.exception)
    ran = invoke("layers", files.paths[1], "--scores", "y")
    assert ran.exit_code == 0, ran.output
    ran = purify(files, "--scores", "y")
    assert ran.exit_code == 0, ran.output
    assert flipped_of_the_example() in ran.output
    ran = purify(files, "--scores", "y", final=example.files().paths[1], output="purified.npz")
    assert "outputs of an .onnx, .keras or .h5 file" in str(ran.exception)


def test_a_demo_without_onnxruntime_says_how_to_get_it(tmp_path):
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "onnxruntime.py").write_text("raise ModuleNotFoundError('No onnxruntime')")
    paths = os.pathsep.join([str(missing), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", "demo", "--save-to", tmp_path / "example"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert 'pip install "flain[onnx]", or from a clone' in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "example").exists()


# Bad input


def truncated(path):
    path.write_bytes(path.read_bytes()[:200_000])


def external(path):
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )


def data_missing(path):
    external(path)
    path.with_name(f"{path.name}.data").unlink()


def data_outside(path):
    external(path)
    model = onnx.load(path, load_external_data=False)
    for each in model.graph.initializer:
        each.external_data[0].value = f"../{path.parent.name}/../outside.bin"
    path.write_bytes(model.SerializeToString())


def quantized(path):
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(path)
    # Older quantizers turn weights around and then find that their shapes are not those noted.
    del model.graph.value_info[:]
    quantize_dynamic(model, path, op_types_to_quantize=["MatMul", "Gemm"])


def shared(path):
    model = onnx.load(path)
    model.graph.output.append(models.value("fc1.weight", 64, 1568))
    onnx.save(model, path)


def folded(path):
    model = onnx.load(path)
    gemm = next(node for node in model.graph.node if "fc1.weight" in node.input)
    entry = gemm.metadata_props.add()
    entry.key, entry.value = "pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoGemm"
    onnx.save(model, path)


def of_another_network(path):
    onnx.save(models.mlp(), path)


def a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("which", [0, 1], ids=["initial", "final"])
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (truncated, flain.WeightsError, "it is damaged or no ONNX model"),
        (data_missing, flain.WeightsError, "which does not exist; keep the model together"),
        (data_outside, flain.WeightsError, "outside the model's folder"),
        (quantized, flain.ModelError, "purify the float model, then quantize the result"),
        (shared, flain.FlainError, "its weight 'fc1.weight' is used elsewhere in the model"),
        (folded, flain.FlainError, "torch.onnx.export(..., optimize=False)"),
        (of_another_network, flain.WeightsError, "so they cannot be paired; export both with"),
        (a_folder, flain.ModelError, "SavedModel holds a computation without layers"),
    ],
)
def test_bad_onnx_input_is_refused_and_nothing_is_written(files, which, spoil, error, words):
    spoil(files.paths[which])
    there = sorted(files.folder.rglob("*"))
    ran = purify(files, "--layer", "fc1", "--report", files.folder / "report.json")
    assert ran.exit_code != 0
    assert isinstance(ran.exception, error), ran.exception
    assert words in str(ran.exception)
    assert sorted(files.folder.rglob("*")) == there


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "purified.npz"}, "expected a name that ends in .onnx; got .npz"),
        ({"output": "purified"}, "got no suffix"),
        ({"output": "final.onnx"}, "one of the files that were read"),
        ({"final": "auxiliary.npz"}, "expected a network that flain_numpy.save wrote"),
        ({"data": "final.onnx"}, "expected"),
        ({"data": "final.npz"}, "expected arrays x and y"),
        ({"initial": "final.onnx"}, "the same model was given twice"),
        ({"final": "final.pt"}, "--architecture module:factory"),
        ({"final": "final.bin"}, ".npz, .onnx, .keras, .h5"),
    ],
)
def test_files_in_the_wrong_place_are_told_apart(files, options, words):
    (files.folder / "final.pt").write_bytes(b"weights")
    (files.folder / "final.bin").write_bytes(b"weights")
    given = {
        name: value if name == "output" else files.folder / value for name, value in options.items()
    }
    before = {path: path.read_bytes() for path in files.folder.iterdir()}
    ran = purify(files, **given)
    assert isinstance(ran.exception, flain.FlainError), ran.exception
    assert words in str(ran.exception)
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == before


def test_models_in_each_others_place_are_refused(files, tmp_path):
    ran = purify(files, final=files.paths[0], initial=files.paths[1], output=tmp_path / "no.onnx")
    assert ran.exit_code != 0
    assert "given in each other's place" in str(ran.exception)
    assert not (tmp_path / "no.onnx").exists()


def test_no_input_is_written_over(files, tmp_path):
    before = {path: path.read_bytes() for path in files.folder.iterdir()}
    (tmp_path / "link.onnx").symlink_to(files.paths[0])
    for path in (*files.paths[:2], files.paths[2], tmp_path / "link.onnx"):
        ran = purify(files, "--overwrite", output=path)
        assert isinstance(ran.exception, flain.OutputError), ran.exception
        assert "one of the files that were read" in str(ran.exception)
    ran = purify(files, "--overwrite", "--report", files.paths[0], output=tmp_path / "new.onnx")
    assert "one of the files that were read" in str(ran.exception)
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "new.onnx").exists()


def test_a_purified_file_is_purified_again_only_with_again(files, tmp_path):
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    assert purify(files, output=once).exit_code == 0
    purified_before._made_here.clear()
    ran = purify(files, final=once, output=twice)
    assert isinstance(ran.exception, flain.ModelError)
    assert "--again on the command line" in str(ran.exception)
    assert not twice.exists()
    ran = purify(files, "--again", final=once, output=twice)
    assert ran.exit_code == 0, ran.output
    assert "the model was purified before" in " ".join(ran.output.split())
    assert twice.exists()
