"""The command, run as a user runs it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cli_files import command
from weights_agree import assert_weights_agree

import flain_core as flain
import flain_numpy
from flain_cli import example


def in_a_process(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "flain_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


@pytest.fixture
def run(capsys, monkeypatch):
    """The command in this process: starting another takes most of the time."""
    monkeypatch.setenv("COLUMNS", "200")

    def ran(*arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        return command(capsys, *arguments)

    return ran


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return example.copy_to(tmp_path_factory.mktemp("example"))


@pytest.fixture
def purify_arguments(files):
    initial, final, auxiliary, _, triggered = files.paths
    options = ("--initial", initial, "--data", auxiliary, "--trigger", f"ASR={triggered}")
    return ("purify", final, *options)


@pytest.mark.parametrize("models", [".npz", ".onnx"])
def test_the_embedded_model_loses_its_backdoor(models):
    if models == ".onnx":
        pytest.importorskip("onnxruntime")
    result, measured = example.purify(example.files(models))
    accuracy, attack = measured["ACC, clean accuracy"], measured["ASR, attack success rate"]
    assert accuracy[0] >= 0.97
    assert attack[0] >= 0.99
    assert attack[1] <= 0.01
    assert round(accuracy[0] - accuracy[1], 9) <= 0.005
    assert result.settings == replace(flain.Settings(), measure="probability")
    assert result.layers[0].method == "incremental"


def test_the_example_does_not_measure_on_what_it_searched_with():
    _, _, auxiliary, clean, triggered = (np.load(path) for path in example.files().paths)
    searched = {image.tobytes() for image in auxiliary["x"]}
    assert not any(image.tobytes() in searched for image in clean["x"])
    assert (triggered["y"] == 5).all()


def test_demo(tmp_path):
    pytest.importorskip("onnxruntime")
    ran = in_a_process("demo", "--save-to", tmp_path / "new")
    assert ran.returncode == 0, ran.stderr
    assert "ASR, attack success rate   100.0%    0.0%" in ran.stdout
    assert "neurons flipped" in ran.stdout
    assert "seconds" in ran.stdout
    suggested = ran.stdout[ran.stdout.index("try: flain ") + 11 :].split()
    purified = in_a_process(*suggested)
    assert purified.returncode == 0, purified.stderr
    assert (tmp_path / "new" / "purified.onnx").exists()
    assert {"final.npz", "final.onnx"} <= {path.name for path in (tmp_path / "new").iterdir()}
    again = in_a_process("demo", "--save-to", tmp_path / "new")
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_version(run):
    assert run("--version").out.startswith("flain 0.")


def test_the_help_says_what_goes_in_and_what_is_taken_if_nothing_is_said(run):
    shown = " ".join(run("purify", "--help").out.replace("│", " ").split())
    assert "FINAL is the file of the trained global model: .npz, .onnx, .keras, .h5" in shown
    least, most = (flain.Settings().allowed(missing) for missing in (0.0, 1.0))
    of_score = flain.Settings(measure="score").allowed(None)
    allowed = f"{of_score:g} of the accuracy; or {least:g} to {most:g} of the probability: more"
    assert f"Allowed loss, from 0 to 1. (default: {allowed}" in shown
    by_flip = "2 for neurons, 3 in directions"
    for default in ("auto", by_flip, "revert", "mean", "probability", "0.95", "recognised"):
        assert f"(default: {default})" in shown
    assert "MODEL is a file: .npz, .onnx" in " ".join(run("layers", "--help").out.split())


@pytest.mark.parametrize("missing", ["click", "rich", "typer"])
def test_a_missing_extra_is_named(missing, tmp_path):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(name={missing!r})")
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", "demo"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr == (
        f"error: the flain command needs {missing}, which is not installed: "
        'pip install "flain[cli]", or from a clone pip install ".[cli]"\n'
    )


def test_layers(run, files):
    ran = run("layers", files.folder / "final.npz")
    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["fc1", "dense", "64", "×", "1568", "1", "1568"] in rows
    assert ["conv2", "conv", "32", "×", "16", "×", "3", "×", "3", "1", "16"] in rows


def test_purify_writes_the_model_and_a_report(purify_arguments, tmp_path):
    output, report = tmp_path / "purified.npz", tmp_path / "report.json"
    ran = in_a_process(*purify_arguments, "-o", output, "--report", report)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(report.read_text())
    result, _ = example.purify(example.files())
    np.testing.assert_array_equal(
        flain_numpy.load(output).layers()["fc1"].weight, result.model.layers()["fc1"].weight
    )
    assert told["layers"][0]["flipped"] == np.flatnonzero(result.layers[0].flipped).tolist()
    assert told["after"]["probes"]["ASR"] <= 0.01
    assert len(told["files"]) == 4
    assert set(told["versions"]) >= {"python", "numpy", "flain"}
    assert "ASR" in ran.stdout
    assert "100.00%" in ran.stdout


def test_settings_reach_the_search(run, purify_arguments, tmp_path):
    report = tmp_path / "report.json"
    options = ("--tolerance", 0.02, "--factor", 1, "--crossing", "keep", "--layer", "fc2")
    options += ("--measure", "score", "--flip", "neurons")
    ran = run(*purify_arguments, *options, "-o", tmp_path / "a.npz", "--report", report)
    assert ran.code == 0, ran.err
    told = json.loads(report.read_text())
    assert told["settings"] == {
        "measure": "score",
        "flip": "neurons",
        "promise": None,
        "confidence": 0.95,
        "held_back": 0.0,
        "thresholds": None,
        "tolerance": 0.02,
        "crossing": "keep",
        "statistic": "mean",
        "factor": 1.0,
        "match_norm": False,
    }
    assert [layer["name"] for layer in told["layers"]] == ["fc2"]
    ran = run(
        *purify_arguments, "--published", "mnist", "-o", tmp_path / "b.npz", "--report", report
    )
    assert ran.code == 1
    assert "exists already" in ran.err
    assert not (tmp_path / "b.npz").exists()
    report.unlink()
    ran = run(
        *purify_arguments, "--published", "mnist", "-o", tmp_path / "b.npz", "--report", report
    )
    assert ran.code == 0, ran.err
    assert json.loads(report.read_text())["settings"]["thresholds"]["step"] == 0.001


def test_a_report_may_be_a_page(run, purify_arguments, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    output, report = tmp_path / "purified.npz", tmp_path / "report.html"
    ran = run(*purify_arguments, "-o", output, "--report", report)
    assert ran.code == 0, ran.err
    page = report.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert str(purify_arguments[1]) in page


@pytest.mark.parametrize("name", ["report.txt", "report"])
def test_a_report_of_another_kind_is_refused_before_any_work(run, purify_arguments, tmp_path, name):
    ran = run(*purify_arguments, "-o", tmp_path / "a.npz", "--report", tmp_path / name)
    assert ran.code == 2
    assert "ends in .html or .json" in " ".join(ran.err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_and_a_promise_are_told_and_reported(run, purify_arguments, tmp_path):
    report = tmp_path / "report.json"
    asked = ("--promise", 0.05, "--confidence", 0.9, "--held-back", 0.25)
    options = ("--flip", "directions", "--measure", "probability", "--outputs", "logits")
    ran = run(*purify_arguments, *asked, *options, "-o", tmp_path / "a.npz", "--report", report)
    assert ran.code == 0, ran.err
    told = json.loads(report.read_text())
    chosen = ("measure", "flip", "promise", "confidence", "held_back")
    assert [told["settings"][name] for name in chosen] == [
        *("probability", "directions", 0.05, 0.9, 0.25)
    ]
    assert told["verdict"] == "flipped"
    assert "verdict: flipped. " in ran.out
    assert told["promise"] == {"loss": 0.05, "confidence": 0.9, "samples": 200, "allowed": 5}
    assert "promise: with 90 % confidence, at most 5.0 % of new samples" in " ".join(
        ran.out.split()
    )
    (layer,) = told["layers"]
    assert layer["flip"] == "directions"
    assert f"{layer['share']:.1%}" in ran.out


def test_a_promise_that_cannot_be_kept_leaves_the_model_and_says_so(
    run, purify_arguments, tmp_path
):
    report = tmp_path / "report.json"
    ran = run(*purify_arguments, "--promise", 0.001, "-o", tmp_path / "a.npz", "--report", report)
    assert ran.code == 3, ran.err
    assert "a.npz was not written: nothing was flipped" in ran.out
    assert not (tmp_path / "a.npz").exists()
    told = json.loads(report.read_text())
    assert told["verdict"] == "not flipped"
    assert told["layers"][0]["stop_reason"] == "promise"
    assert "verdict: not flipped. " in ran.out
    (warned,) = (line for line in ran.err.splitlines() if "needs at least" in line)
    assert warned.startswith("warning: ")
    assert "needs at least" not in ran.out


def test_a_command_that_is_not_there_is_suggested_once(run):
    ran = run("prify")
    assert ran.code == 2
    assert ran.err.count("Did you mean") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--promise": "0"}, "greater than 0 and less than 1"),
        ({"--promise": "0.01", "--published": "mnist"}, "--promise"),
        ({"--held-back": "0.1", "--measure": "score"}, "held_back"),
        ({"--flip": "directions", "--match-norm": None}, "neurons"),
        ({"--flip": "channels"}, "'directions'"),
        ({"--outputs": "probabilities"}, "probabilities"),
        ({"--layer": "fc_1"}, "Did you mean 'fc1'"),
        ({"--initial": "nowhere.npz"}, "nowhere.npz"),
        ({"--data": "nowhere.npz"}, "nowhere.npz"),
        ({"--trigger": "ASR"}, "NAME=FILE"),
        ({"--tolerance": "1.5"}, "from 0 to 1"),
        ({"--tolerance": "0.1", "--published": "mnist"}, "--tolerance"),
        ({"--report": "purified.npz"}, "another name"),
        ({"--report": "no/../purified.npz"}, "another name"),
        ({"-o": "purified.onnx"}, ".npz"),
        ({"-o": "no/such/folder/a.npz"}, "folder does not exist"),
        ({"--architecture": "nothing"}, "module:name"),
        ({"--architecture": "no_such_module:net"}, "no_such_module"),
    ],
)
def test_mistakes_get_one_clear_message(run, files, tmp_path, change, words):
    if "--architecture" in change:
        pytest.importorskip("torch")
    initial, final, auxiliary, _, _ = files.paths
    options = {"--initial": initial, "--data": auxiliary, "-o": "purified.npz"} | change
    ran = run(
        "purify", final, *(word for pair in options.items() for word in pair if word), cwd=tmp_path
    )
    assert ran.code in (1, 2)
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


ARCHITECTURE = """
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10),
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_with_an_architecture(files, tmp_path, suffix):
    torch = pytest.importorskip("torch")
    flain_torch = pytest.importorskip("flain_torch")
    (tmp_path / "shapes.py").write_text(ARCHITECTURE)
    namespace = {}
    exec(ARCHITECTURE, namespace)
    for name in ("initial", "final"):
        module = namespace["network"]()
        operations = flain_numpy.load(files.folder / f"{name}.npz").operations
        with torch.no_grad():
            for part, operation in zip(module, operations, strict=True):
                if hasattr(part, "weight"):
                    part.weight.copy_(torch.tensor(operation.weight))
                    part.bias.copy_(torch.tensor(operation.bias))
        flain_torch.save(module, tmp_path / f"{name}{suffix}")
    ran = in_a_process(
        *("purify", f"final{suffix}", "--initial", f"initial{suffix}"),
        *("--data", files.folder / "auxiliary.npz", "--architecture", "shapes:network"),
        *("-o", f"purified{suffix}"),
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    purified = flain_torch.load(tmp_path / f"purified{suffix}", namespace["network"])
    result, _ = example.purify(example.files())
    assert_weights_agree(purified[7].weight.detach().numpy(), result.model.layers()["fc1"].weight)


def test_a_backend_that_cannot_be_loaded_is_told_of(tmp_path, files):
    package = tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[flain.backends]\nbroken = no_such_module:it\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", "layers", files.paths[1]],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": path},
        check=False,
    )
    assert ran.returncode == 0
    assert "fc1" in ran.stdout
    assert ran.stderr.startswith("warning: the backend 'broken'")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("typed", [["layers", "final"], ["layers", "final", "--json"], ["--help"]])
def test_nothing_is_said_when_nobody_reads(files, typed):
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does
    typed = [str(files.paths[1]) if each == "final" else each for each in typed]
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", *typed],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_folder_that_was_removed_is_one_clear_error(tmp_path, purify_arguments):
    gone = tmp_path / "gone"
    gone.mkdir()
    started = [sys.executable, "-m", "flain_cli", *map(str, purify_arguments)]
    script = f'cd {gone} && rmdir {gone} && exec "$@"'
    for options in (["-o", "a.npz"], ["-o", tmp_path / "a.npz", "--report", "a.json"]):
        gone.mkdir(exist_ok=True)
        ran = subprocess.run(
            ["/bin/sh", "-c", script, "sh", *started, *map(str, options)],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
            check=False,
        )
        assert ran.returncode == 1
        assert "error: cannot write" in ran.stderr
        assert "current folder does not exist any more" in ran.stderr
        assert "Traceback" not in ran.stderr
    assert not (tmp_path / "a.npz").exists()
