"""A real deployment on this machine: a SuperLink, three SuperNodes, and `flwr run`."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="flwr is not installed")
flain_flower = pytest.importorskip("flain_flower")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
APP = ROOT / "tests" / "flower_deployment"
FOLDERS = (ROOT, ROOT / "backends", ROOT / "adapters", ROOT / "tests")
NODES = 3


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Deployment:
    """Processes that this starts, each in a group of its own, and ends by their ids."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "home").mkdir()
        path = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PYTHONPATH", "")])
        self.environment = os.environ | {
            "PYTHONPATH": path,
            "FLWR_HOME": str(folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.bin = Path(sys.executable).parent
        link, *self.node_ports = free_ports(1 + NODES)
        self.link = f"127.0.0.1:{link}"
        (folder / "home" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{self.link}"\n'
            "insecure = true\n"
        )
        self.processes = {}

    def begin(self):
        link = int(self.link.rpartition(":")[2])
        self.start("link", "flower-superlink", "--insecure", "--port", link)
        self.wait_for_port(link)
        for number in range(NODES):
            config = f"partition-id={number} num-partitions={NODES}"
            words = ("--insecure", "--superlink", self.link, "--node-config", config)
            port = self.node_ports[number]
            self.start(f"node {number}", "flower-supernode", *words, "--port", port)

    def start(self, name, command, *words):
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = psutil.Popen(
                [self.bin / command, *map(str, words)],
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
            )

    def wait_for_port(self, port, seconds=30):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "link.log").read_text())

    @contextmanager
    def run(self, *config):
        """Run `flwr run` in the background; its log is streamed."""
        given = [word for each in config for word in ("--run-config", each)]
        with psutil.Popen(
            [self.bin / "flwr", "run", APP, "here", "--stream", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=self.folder,
        ) as run:
            yield run
            with suppress(psutil.NoSuchProcess):
                run.kill()

    def kill(self, name):
        """End a process and all that it started, by their ids, as a machine does that goes down."""
        process = self.processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()

    def stop(self):
        for name in reversed(list(self.processes)):
            self.kill(name)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    there = Deployment(tmp_path_factory.mktemp("deployment"))
    try:
        there.begin()
        yield there
    finally:
        there.stop()


def finished(run, notes, seconds=400):
    output, _ = run.communicate(timeout=seconds)
    told = notes / "server.json"
    (notes / "flwr-run.log").write_text(output)
    assert told.exists(), output
    return json.loads(told.read_text()), re.sub(r"\x1b\[\d*m", "", output)


def assert_as_on_the_page(output, title):
    """The output has the lines of the page, in whose place "…" something may stand."""
    page = (ROOT / "docs" / "flower.md").read_text()
    lines = page.split(f'```text title="{title}"\n')[1].split("\n```")[0].splitlines()
    for line in lines:
        assert re.search(re.escape(line).replace("…", ".+"), output), line


def test_flwr_run_purifies_with_what_trusted_nodes_say(deployment, tmp_path):
    folder = tmp_path / "models"
    config = f'notes="{tmp_path}" flain.folder="{folder}" flain.layers="fc1"'
    with deployment.run(config) as run:
        told, output = finished(run, tmp_path)
    assert Path(told["folder"]).parent == folder
    assert told["metrics"]["flain-verdict"] == 3
    asked = told["asked"]
    assert (asked["holders"], asked["questions"], asked["messages"]) == (3, 5, 15)
    names = ("initial", "trained", "purified")
    kept = [flain_flower.load_arrays(Path(told["folder"]) / f"{name}.npz") for name in names]
    _, trained, purified = ({k: v.numpy() for k, v in each.items()} for each in kept)
    changed = [name for name in trained if not np.array_equal(trained[name], purified[name])]
    assert changed == ["fc1.weight"]
    assert_as_on_the_page(output, "flwr run")
    assert "'flain-verdict': '3'" in output
    assert f"not purified, is in {told['folder']}/trained.npz" in output


def test_a_supernode_that_is_killed_is_reported_as_gone(deployment, tmp_path):
    with deployment.run(f'notes="{tmp_path}" hangs=2') as run:
        until = time.monotonic() + 200
        while not (tmp_path / "2 was asked 2").exists():
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.2)
        deployment.kill("node 2")
        told, output = finished(run, tmp_path)
    assert_as_on_the_page(output, "flwr run, a SuperNode killed")
    assert "no answer came within" not in output
    # Two are left, which is more than half.
    assert told["asked"]["holders"] == 3
    assert told["metrics"]["flain-verdict"] == 3
    assert (tmp_path / "1 was asked 5").exists()
    assert not (tmp_path / "2 was asked 3").exists()
