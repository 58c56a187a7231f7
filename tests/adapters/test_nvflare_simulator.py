"""Real jobs in NVIDIA FLARE's simulator: a server and clients in processes of their own."""

import importlib.util
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere, in_network

import flain_core as flain
import flain_numpy
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

pytest.importorskip("nvflare")

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "tests" / "flare_jobs"
EXAMPLE = ROOT / "examples" / "nvflare"
DATA = os.environ.get("FLAIN_DATA")

pytestmark = pytest.mark.slow


def run(script, workspace, *arguments, data=DATA):
    """Run a script, make sure that nothing connects to elsewhere, and return code and output."""
    paths = [str(JOBS / "guard"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    outside = workspace / "outside.txt"
    environment = {
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "OUTSIDE": str(outside),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "FLAIN_DATA": os.path.relpath(data) if data else "",
    }
    ran = subprocess.run(
        [sys.executable, script, *map(str, arguments or (workspace,))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=600,
    )
    assert not outside.exists(), outside.read_text()
    return ran.returncode, ran.stdout + ran.stderr


def test_the_example_says_what_it_needs(tmp_path):
    words = ("--workspace", tmp_path / "workspace")
    code, output = run(EXAMPLE / "job.py", tmp_path, *words, data=tmp_path)
    assert code == 2
    assert "set FLAIN_DATA to a folder with MNIST/raw" in output
    assert not (tmp_path / "workspace").exists()


def weights(path):
    import torch

    return torch.load(path, weights_only=True)["model"]


@pytest.fixture(scope="module")
def mnist_job(tmp_path_factory):
    """The example, whole: five clients, two of them malicious."""
    pytest.importorskip("torch")
    if not DATA:
        pytest.skip("FLAIN_DATA names no folder with MNIST/raw")
    workspace = tmp_path_factory.mktemp("mnist")
    code, output = run(EXAMPLE / "job.py", workspace, "--workspace", workspace)
    assert code == 0, output
    return workspace / "mnist" / "server" / "simulate_job"


@pytest.fixture(scope="module")
def measured(mnist_job):
    """ACC and ASR of the unpurified and of the purified model on the whole test set."""
    import torch
    from federation import Attack
    from mnist_samples import read_mnist

    example = runpy.run_path(str(EXAMPLE / "model.py"))
    _, test = read_mnist(Path(DATA) / "MNIST" / "raw")
    attack = Attack()

    def predicted(network, images):
        with torch.inference_mode():
            return network(images.float() / 255).argmax(1)

    def measure(name):
        network = example["Network"]()
        network.load_state_dict(weights(mnist_job / "app_server" / name))
        network.eval()
        sources = test.images[test.labels == attack.source]
        hit = predicted(network, attack.patch.stamp(sources)) == attack.target
        right = predicted(network, test.images) == test.labels
        return right.float().mean().item(), hit.float().mean().item()

    return measure("unpurified_FL_global_model.pt"), measure("FL_global_model.pt")


def test_a_federation_with_malicious_clients_is_purified(measured):
    (accuracy_before, success_before), (accuracy_after, success_after) = measured
    assert success_before >= 0.95
    assert success_after <= 0.02
    assert accuracy_before - accuracy_after <= 0.01


def test_the_final_evaluation_is_of_the_purified_model(mnist_job, measured):
    results = json.loads((mnist_job / "cross_site_val" / "cross_val_results.json").read_text())
    ((model, metrics),) = results["site-5"].items()
    assert model == "SRV_FL_global_model.pt"
    accuracy, success = measured[1]
    assert metrics == pytest.approx({"ACC": accuracy, "ASR": success}, abs=2e-4)


def test_the_report_says_what_was_done(mnist_job):
    report = json.loads((mnist_job / "purification.json").read_text())
    assert report["layers"][0]["name"] == "fc1"
    assert report["before"]["probes"]["ASR"] >= 0.95
    assert report["after"]["probes"]["ASR"] <= 0.02


def test_a_numpy_job_with_a_malicious_client_is_purified(tmp_path):
    code, output = run(JOBS / "numpy_job.py", tmp_path)
    assert code == 0, output
    server = tmp_path / "numpy" / "server" / "simulate_job"
    unpurified = np.load(server / "unpurified_model.npz")["numpy_key"]
    purified = np.load(server / "models" / "server.npy")
    initial, _ = backdoored.networks()
    started = np.concatenate([each.ravel() for each in flain_numpy.arrays_of(initial).values()])
    expected = flain.purify_arrays(
        started, unpurified, initial, data=backdoored.samples(300, seed=11)
    )
    np.testing.assert_array_equal(purified, expected.arrays)
    report = json.loads((server / "purification.json").read_text())
    assert report["before"]["probes"]["ASR"] >= 0.95
    assert report["after"]["probes"]["ASR"] <= 0.02
    assert report["before"]["clean"] - report["after"]["clean"] <= 0.01


def test_a_recipe_is_purified_with_what_its_clients_say(tmp_path):
    code, output = run(JOBS / "trusted_recipe.py", tmp_path)
    assert code == 0, output
    server = tmp_path / "numpy" / "server" / "simulate_job"
    (trained,) = np.load(server / "unpurified_model.npz").values()
    triggered = LocalScorer(LocalSamples.of(backdoored.triggered(200, seed=12)))
    untrained, _ = backdoored.networks()
    asr = [
        triggered.score_of(in_network(vector, untrained)).clean.mean
        for vector in (trained.ravel(), np.load(server / "models" / "server.npy"))
    ]
    assert asr[0] > 0.95
    assert asr[1] <= 0.02


def test_the_simulator_finds_what_a_serial_search_finds(tmp_path):
    from flain_cli import example

    code, told = run(JOBS / "trusted_job.py", tmp_path)
    assert code == 0, told
    # When it happens, and among the notes in the log at the end.
    assert told.count("is left out from now on") == 2
    assert "site-4, which holds auxiliary samples, is left out from now on: expected whole" in told

    initial, final, auxiliary, clean, triggered = example.files().paths
    server = tmp_path / "job" / "server" / "simulate_job"
    (trained,) = np.load(server / "unpurified_model.npz").values()
    purified = np.load(server / "models" / "server.npy")
    expected = flain.purify_arrays(
        np.load(tmp_path / "initial.npy"),
        trained,
        initial,
        data=auxiliary,
        settings=as_elsewhere(),
    )
    np.testing.assert_array_equal(purified != trained.ravel(), expected.arrays != trained.ravel())
    np.testing.assert_allclose(purified, expected.arrays, rtol=1e-6)

    held_out = LocalScorer(LocalSamples.of(clean, probes={"ASR": triggered}))
    before = held_out.score_of(flain_numpy.load(final))
    after = held_out.score_of(in_network(purified, flain_numpy.load(initial)))
    assert before.probes["ASR"].mean > 0.95
    assert after.probes["ASR"].mean <= 0.02
    assert after.clean.mean >= before.clean.mean - 0.01


def test_a_mistake_ends_the_job_before_training(tmp_path):
    code, output = run(JOBS / "numpy_job.py", tmp_path, tmp_path, "claen.npz")
    assert code != 0
    assert "there is no file" in output
    assert "Aggregated" not in output
    server = tmp_path / "numpy" / "server" / "simulate_job"
    assert server.exists()
    assert not (server / "models").exists()


class TestAJobWithoutCustomCode:
    def test_runs_where_the_site_allows_the_package(self, tmp_path):
        code, output = run(JOBS / "listed_job.py", tmp_path, tmp_path, "flain_nvflare.")
        assert code == 0, output
        server = tmp_path / "job" / "server" / "simulate_job"
        assert not (server / "app_server" / "custom").exists()
        assert (server / "unpurified_model.npz").exists()
        assert (server / "purification.json").exists()

    def test_is_refused_elsewhere(self, tmp_path):
        code, output = run(JOBS / "listed_job.py", tmp_path)
        assert code != 0
        assert "'flain_nvflare.purify.Purify'" in output
        assert "is not in allow_list" in output


def listed(title):
    """The list of a kind of site, as the page has it."""
    text = (ROOT / "docs" / "nvflare.md").read_text()
    return json.loads(text.split(f'```json title="{title}"\n')[1].split("```")[0])


def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def in_poc_mode(tmp_path, monkeypatch):
    """Run a job in POC mode, on the page's lists; return the output."""
    pytest.importorskip("torch")
    if not all(map(free, (8002, 8003))):
        pytest.skip("POC mode has fixed ports, and something else listens there")
    monkeypatch.setenv("HOME", str(tmp_path))
    installed = [str(JOBS / "installed"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, installed)))

    def output_of(job):
        lists = [",".join(listed(title)) for title in ("server", "client")]
        code, output = run(JOBS / job, tmp_path, tmp_path, *lists)
        assert code == 0, output
        return output

    return output_of


def test_sites_with_lists_of_their_own_run_a_job_in_poc_mode(in_poc_mode, tmp_path):
    output = in_poc_mode("restricted_job.py")
    assert (tmp_path / "status.txt").read_text().startswith("FINISHED:COMPLETED"), output
    (result,) = tmp_path.glob("poc/*/prod_00/admin*/transfer/*/workspace")
    report = json.loads((result / "purification.json").read_text())
    assert report["verdict"] == "flipped"
    assert report["asked"]["questions"] == report["asked"]["messages"] == 5
    assert report["asked"]["kind"] == "client"
    assert (result / "app_server" / "unpurified_FL_global_model.pt").exists()
    assert not list(tmp_path.glob("poc/**/custom/**/*.py"))


def test_a_site_that_goes_down_while_it_is_asked_is_left_out(in_poc_mode, tmp_path):
    in_poc_mode("killed_job.py")
    report = json.loads((tmp_path / "purification.json").read_text())
    assert report["verdict"] == "flipped"
    assert report["asked"]["holders"] == 3
    (said,) = [each for each in report["warnings"] if "site-3" in each]
    assert "is left out from now on: no answer came within" in said


def test_the_example_can_be_exported(tmp_path):
    pytest.importorskip("torch")
    if not DATA:
        pytest.skip("FLAIN_DATA names no folder with MNIST/raw")
    words = ("--workspace", tmp_path / "workspace", "--export", "--export-dir", tmp_path / "job")
    code, output = run(EXAMPLE / "job.py", tmp_path, *words)
    assert code == 0, output
    (config,) = tmp_path.glob("job/mnist/**/config_fed_server.json")
    workflows = [each["path"] for each in json.loads(config.read_text())["workflows"]]
    assert "flain_nvflare.purify.Purify" in workflows
    assert not (tmp_path / "workspace" / "mnist").exists()


def test_a_keras_model_is_purified_through_tensorflows_persistor(tmp_path):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow")
    code, output = run(JOBS / "keras_job.py", tmp_path)
    assert code == 0, output
    assert (tmp_path / "server" / "job" / "purification.json").exists()


def test_the_guard_sees_a_connection_to_elsewhere(tmp_path):
    (tmp_path / "call.py").write_text("import socket\nsocket.socket().connect(('192.0.2.1', 80))\n")
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        run(tmp_path / "call.py", tmp_path)


TWO_CLIENTS_AT_ONCE = """
import pickle, threading
from argparse import Namespace
from nvflare.private.fed.app.simulator.simulator_runner import SimulatorClientRunner

args = Namespace(workspace="here", set=None)
runner = SimulatorClientRunner("custom", args, [], {}, args, {"kept": 1})
written, sent = threading.Barrier(2), []

def start(name):
    runner.build_ctx["client_name"] = name
    written.wait()
    sent.append(pickle.loads(pickle.dumps({"build_ctx": runner.build_ctx}))["build_ctx"])

threads = [threading.Thread(target=start, args=[f"site-{number}"]) for number in (1, 2)]
[each.start() for each in threads], [each.join() for each in threads]
print(sorted(each["client_name"] for each in sent), [each["kept"] for each in sent])
"""


def test_the_guard_lets_two_clients_that_start_at_once_keep_their_names(tmp_path):
    (tmp_path / "two.py").write_text(TWO_CLIENTS_AT_ONCE)
    code, output = run(tmp_path / "two.py", tmp_path)
    assert code == 0, output
    assert "['site-1', 'site-2'] [1, 1]" in output
