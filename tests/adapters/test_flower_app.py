"""The example app, in a real simulation; and that nobody is told of it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
NO_NETWORK = Path(__file__).parent / "no_network"
DATA = os.environ.get("FLAIN_DATA")


def run(*command, cwd, tried, **environment):
    """Run Python where it can reach no other machine; ``tried`` says whom it tried to reach."""
    path = os.pathsep.join(filter(None, (str(NO_NETWORK), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "FLAIN_TRIED": str(tried)} | environment
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_what_flower_would_send_is_noticed_and_the_switch_stops_it(tmp_path):
    home = "supercore" if find_spec("flwr.supercore.telemetry") else "common"  # in older ones
    post = f"from flwr.{home}.telemetry import EventType, create_event as create; "
    post += "print(create(EventType.PING, None))"
    for enabled, expected in ("1", "socket.getaddrinfo telemetry.flower.ai\n"), ("0", None):
        tried = tmp_path / enabled
        ran = run(
            "-c",
            post,
            cwd=tmp_path,
            tried=tried,
            FLWR_TELEMETRY_ENABLED=enabled,
            FLWR_HOME=str(tmp_path),
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == "disabled\n"
        assert (tried.read_text() if tried.exists() else None) == expected


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    """One run of the whole app, with its default configuration."""
    pytest.importorskip("ray")
    if not DATA:
        pytest.skip("FLAIN_DATA names no folder with MNIST/raw")
    out, tried = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("tried") / "tried"
    ran = run(
        "simulate.py",
        f"out={json.dumps(str(out))}",
        f"data={json.dumps(os.path.abspath(DATA))}",
        cwd=EXAMPLE,
        tried=tried,
        FLWR_HOME=str(tmp_path_factory.mktemp("home")),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran, out, tried


def scored(line):
    """ACC and ASR, in percent."""
    words = line.replace("%", "").split()
    return float(words[words.index("ACC") + 1]), float(words[words.index("ASR") + 1])


@pytest.mark.slow
def test_a_real_simulation_loses_its_backdoor(simulation):
    ran, out, _ = simulation
    lines = {line.split(" ACC")[0].strip(): line for line in ran.stdout.splitlines()}
    before, after = scored(lines["round 6"]), scored(lines["purified"])
    assert before[1] >= 95
    assert after[1] <= 2
    assert after[0] >= before[0] - 1
    assert before[0] >= 94
    trained, purified = (torch.load(out / f"{name}.pt") for name in ("trained", "purified"))
    changed = [name for name in trained if not torch.equal(trained[name], purified[name])]
    assert changed == ["8.weight", "8.bias"]
    report = json.loads((out / "report.json").read_text())
    assert len(report["layers"][0]["flipped"]) > 0
    assert report["layers"][0]["flip"] == "directions"
    assert report["layers"][0]["share"] > 0.1
    columns = np.flatnonzero((trained["8.weight"] != purified["8.weight"]).any(dim=0).numpy())
    assert set(report["layers"][0]["flipped"]) <= set(columns)


@pytest.mark.slow
def test_the_simulation_told_nobody(simulation):
    ran, _, tried = simulation
    assert not tried.exists(), tried.read_text()
    # Otherwise the guard was not there.
    assert "aggregate_train: Received 5 results and 0 failures" in ran.stdout + ran.stderr


def test_flower_takes_the_app_for_one(tmp_path):
    ran = run(
        *("-m", "flwr.cli.app", "build", "--app", EXAMPLE),
        cwd=tmp_path,
        tried=tmp_path / "tried",
        FLWR_HOME=str(tmp_path / "home"),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(list(tmp_path.glob("*.fab"))) == 1
    assert "arning" not in ran.stdout + ran.stderr
