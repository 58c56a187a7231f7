"""The defence harness runs a matrix whole, and repeats nothing when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flwr")
pytest.importorskip("tomllib")

import torch
from defence import attackers, federation, measured, networks, rows, runner
from defence.training import Plan, boosted, copied, packed, train, unpacked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROW = rows.Row(
    "r", "digits", "digits", mcr=0.3, clients=10, sampled=5, clean=1, attacked=2, epochs=1
)


def command(*parts, folder):
    places = ("--results", str(folder / "results"), "--models", str(folder / "models"))
    return [sys.executable, "-m", "benchmarks.defence", *parts, *places]


def run(*parts, folder):
    return subprocess.run(
        command(*parts, folder=folder), cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def results(folder):
    found = (folder / "results").rglob("*.json")
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run("train", "--profile", "small", folder=folder)
    run("defend", "--profile", "small", "--jobs", "2", folder=folder)
    return folder


def test_the_small_profile_ends_with_a_result_of_every_row_and_cell(finished):
    profile = rows.read("small")
    places = runner.Places(finished / "results" / "small", finished / "models")
    for row in profile.rows.values():
        found = runner.result(places.of_row(row), row.key)
        assert found["acc"] > 0.7
        assert found["row"]["seed"] == row.seed
    for cell in profile.cells:
        found = runner.result(places.of_cell(cell), profile.rows[cell.row].key)
        assert 0 <= found["der"] <= 1
        assert len(found["path"]) == 11
        assert found["relearning"]["rounds"] in (None, 1, 2, 3, 4, 5)
        if cell.defence == "none":
            assert (found["der"], found["newly_wrong"]) == (0.5, 0)
            assert len(set(found["path"])) == 1
        else:
            assert sum(found["info"]["flipped"].values()) > 0
            assert found["acc"] > found["acc_before"] - 0.1


def test_what_is_done_is_not_done_again_unless_told(finished):
    def times():
        return {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}

    before = times()
    run("train", "--profile", "small", folder=finished)
    run("defend", "--profile", "small", folder=finished)
    assert times() == before
    said = run("defend", "--profile", "small", "--redo", "flain", folder=finished)
    assert "flain: 2 results removed" in said
    changed = {path for path, at in times().items() if at != before[path]}
    assert changed == {path for path in before if "/flain/" in str(path)}
    assert "yes" in run("list", "--profile", "small", folder=finished)


def test_the_small_profile_is_rendered(finished, tmp_path):
    pytest.importorskip("matplotlib")
    written = tmp_path / "how-well.md"
    # The models have no part in it.
    places = ("--results", str(finished / "results"), "--page", str(written))
    rendering = [sys.executable, "-m", "benchmarks.defence", "render", "--profile", "small"]
    texts = []
    for _ in range(2):
        subprocess.run([*rendering, *places], cwd=ROOT, check=True, capture_output=True)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        texts.append({path: path.read_bytes() for path in files})
    assert texts[0] == texts[1]
    text = written.read_text()
    assert "incomplete" not in text
    assert "| digits-benign | 1 |" in text
    # A line for each deep cell, with what its file says.
    for name, found in results(finished).items():
        if "/cells/" in name and found["cell"]["defence"] == "flain":
            last = found["relearning"]["asr"][-1]
            group = found["cell"]["row"].removesuffix("-s21")
            (line,) = (each for each in text.split("\n") if f"| {group} | flain | 100 |" in each)
            assert line.endswith(f"{100 * last:.1f} |")


def test_a_changed_row_makes_its_results_stale(finished):
    row = next(iter(rows.read("small").rows.values()))
    places = runner.Places(finished / "results" / "small", finished / "models")
    assert runner.is_done(places.of_row(row), row.key)
    assert not runner.is_done(places.of_row(row), replace(row, attacked=9).key)


def test_a_killed_run_goes_on_and_ends_with_the_same_model(tmp_path):
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(
        """
        [bases.digits]
        data = "digits"
        network = "digits"
        clients = 10
        sampled = 10
        epochs = 4
        [[profiles.two.rows]]
        base = "digits"
        name = "row-s{seed}"
        seed = [21, 22]
        mcr = 0.3
        clean = 4
        attacked = 8
        [[profiles.two.cells]]
        defences = ["none"]
        samples = [10]
        """
    )
    options = ("train", "--profile", "two", "--matrix", str(matrix))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    started = subprocess.Popen(
        command(*options, folder=killed), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    running = killed / "models" / "running"
    deadline = time.monotonic() + 60
    # The second row is under way.
    while not list(running.glob("row-s22*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    said = started.communicate()[0]
    assert "row-s22" in said
    (first,) = results(killed)
    stored = killed / first
    written = stored.stat().st_mtime_ns

    again = run(*options, folder=killed)
    run(*options, folder=whole)
    assert stored.stat().st_mtime_ns == written
    assert "row-s21" not in again
    assert "row-s22: round 12 of 12" in again
    assert "row-s22: round 5 of 12" not in again
    assert not list(running.iterdir())

    def model(folder):
        (path,) = (folder / "models").glob("row-s22-*.pt")
        return torch.load(path, weights_only=True)["final"]

    ends = [model(folder) for folder in (killed, whole)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])


def test_a_failed_row_is_told_and_costs_no_other(tmp_path):
    good = replace(ROW, name="good", attacked=0)
    profile = rows.Profile(
        "p", {"bad": replace(good, name="bad", network="none"), "good": good}, ()
    )
    places, said = runner.Places(tmp_path / "p", tmp_path / "models"), []
    assert runner.train(profile, places, said.append) == 1
    assert any("bad failed" in line and "KeyError" in line for line in said)
    assert [path.stem for path in tmp_path.rglob("*.json")] == ["good"]


def test_rows_that_start_alike_share_their_honest_rounds(tmp_path):
    federation.trained(ROW, tmp_path)
    (folder,) = (tmp_path / "starts").iterdir()
    start = folder / "1.pt"
    stamp = start.stat().st_mtime_ns
    _, benign = federation.trained(replace(ROW, name="b", mcr=0.0, attacked=0), tmp_path)
    assert start.stat().st_mtime_ns == stamp
    shared = torch.load(start, weights_only=True)
    assert all((benign[name] == shared[name]).all() for name in shared)


@pytest.mark.parametrize("strategy", federation.STRATEGIES)
def test_every_strategy_trains(strategy, tmp_path):
    row = replace(ROW, strategy=strategy, sampled=10, attacked=1)
    first, last = federation.trained(row, tmp_path)
    assert set(first) == set(last)
    assert all(torch.isfinite(value).all() for value in last.values())
    assert any((first[name] != last[name]).any() for name in first)


@pytest.mark.parametrize("technique", ["neurotoxin", "constrain-and-scale", "replacement"])
def test_every_technique_that_fits_any_network_trains(technique, tmp_path):
    mcr = 0.1 if technique in attackers.ALONE else 0.3
    row = replace(ROW, technique=technique, mcr=mcr, attacked=1)
    federation.trained(row, tmp_path)


def test_neurotoxin_leaves_what_clean_data_move_the_most():
    module, plan = _planned("neurotoxin")
    weight = module.get_parameter("fc1.weight")
    before = weight.detach().clone()
    mask = plan.masks["fc1.weight"]
    assert 0.04 < 1 - mask.mean() < 0.06
    x, y = federation.tensors(ROW, federation.holding(ROW, 0))
    train(module, x, y, 1, 0, plan)
    assert (weight[mask == 0] == before[mask == 0]).all()
    assert (weight[mask == 1] != before[mask == 1]).any()


def test_attackers_who_know_flain_keep_off_the_inputs_it_flips():
    module = _mnist_like()
    x = torch.rand(40, 1, 28, 28)
    scene = attackers.Scene(
        replace(ROW, technique="project"),
        module,
        x,
        torch.zeros(40, dtype=torch.long),
        lambda: x + 1,
    )
    project = attackers.planned(scene).masks["fc1.weight"]
    activation = attackers._entering(module, x).mean(0)
    assert (activation[project[0] == 1] > activation.median()).all()
    assert abs(project.mean() - 0.5) < 0.05
    frozen = attackers.planned(replace(scene, row=replace(ROW, technique="freeze"))).masks
    assert all(not mask.any() for mask in frozen.values())
    couple = attackers.planned(replace(scene, row=replace(ROW, technique="couple")))
    assert couple.penalty(module) > 0


def test_a_boosted_update_goes_as_many_times_as_far():
    module = networks.built("digits", 0)
    before = {name: value - 1 for name, value in copied(module).items()}
    sent = boosted(module, before, 10)
    assert torch.allclose(sent["fc1.weight"], before["fc1.weight"] + 10)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_survives_the_wire(name):
    module = networks.built(name, 0)
    state = copied(module)
    back = unpacked(packed(state), state)
    assert all((back[each] == state[each]).all() for each in state)
    assert all(back[each].dtype == state[each].dtype for each in state)
    grey = {"digits": (8, 1), "mnist": (28, 1), "dense": (28, 1), "vit": (28, 1)}
    side, channels = grey.get(name, (32, 3))
    assert module.eval()(torch.zeros(2, channels, side, side)).shape == (2, 10)


def test_the_path_begins_before_a_defence_and_ends_after_it():
    before, after = networks.built("digits", 0), networks.built("digits", 1)
    path = measured.along_the_path(ROW, before, after)
    ends = [measured._success(ROW, module) for module in (before, after)]
    assert (path[0], path[-1]) == pytest.approx(tuple(ends), abs=1e-4)


def test_flowers_simulation_trains_as_this_process_does(tmp_path):
    row = replace(ROW, mcr=0.0, clean=2, attacked=0, sampled=10)
    _, here = federation.trained(row, tmp_path)
    script = (
        "import sys, torch; from defence import federation, rows\n"
        f"row = rows.{row!r}\n"
        "torch.save(federation.simulated(row)[1], sys.argv[1])\n"
    )
    path = tmp_path / "there.pt"
    paths = [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", script, path], check=True, env=environment, cwd=tmp_path)
    there = torch.load(path, weights_only=True)
    for name, value in here.items():
        # Clients answer in another order there, and sums of floats differ by it.
        np.testing.assert_allclose(there[name], value, atol=1e-5)


def _mnist_like():
    return networks.built("mnist", 0).eval()


def _planned(technique):
    row = replace(ROW, technique=technique)
    module = networks.built("digits", 0).eval()
    x, y = federation.tensors(row, federation.holding(row, 0))
    return module, attackers.planned(attackers.Scene(row, module, x, y, lambda: x))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    "given", [("--profile", "full"), ("--profile", "small", "--device", "cuda")]
)
def test_a_device_that_is_not_there_is_said_before_anything_is_trained(given, tmp_path):
    ran = subprocess.run(
        command("run", *given, folder=tmp_path),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "PyTorch sees none" in ran.stderr
    assert not list(tmp_path.iterdir())


def test_run_trains_and_defends_what_any_process_has_trained(tmp_path):
    told = run("run", "--profile", "small", "--jobs", "3", folder=tmp_path)
    assert "left out" not in told
    assert len([found for found in results(tmp_path) if "/rows/" in found]) == 2
    assert len([found for found in results(tmp_path) if "/cells/" in found]) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_steps_that_the_device_repeats_train_as_steps_one_by_one():
    whole = federation.divided("digits", 21)
    x = torch.from_numpy(whole.inputs(whole.clients.pixels)).cuda()
    y = torch.from_numpy(whole.clients.labels).cuda()
    repeated, plain = (networks.built("digits", 1).cuda() for _ in range(2))
    for _ in range(2):
        train(repeated, x, y, 2, 7, Plan())
        train(plain, x, y, 2, 7, Plan(masks={"fc1.weight": torch.ones(1).cuda()}))
    for one, other in zip(repeated.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_images_are_varied_in_training_alone():
    network = networks.built("published", 1)
    varied = network.get_submodule("varied")
    x = torch.rand(64, 3, 32, 32)
    assert torch.equal(varied.eval()(x), x)
    moved = varied.train()(x)
    assert moved.shape == x.shape
    # Each is one of 98: mirrored or not, seven places down and seven across.
    middle = x[0, :, 8:24, 8:24]
    found = [
        torch.equal(image[:, 8 + down : 24 + down, 8 + right : 24 + right], middle)
        for image in (moved[0], moved[0].flip(2))
        for down in range(-3, 4)
        for right in range(-3, 4)
    ]
    assert sum(found) == 1
