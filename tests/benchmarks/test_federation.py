"""The federation that made the embedded example, on the real MNIST files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
federation = pytest.importorskip("federation")
mnist_samples = pytest.importorskip("mnist_samples")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_example.py"
DATA = os.environ.get("FLAIN_DATA")

pytestmark = pytest.mark.skipif(not DATA, reason="FLAIN_DATA names no folder with MNIST/raw")


@pytest.fixture(scope="module")
def mnist():
    return mnist_samples.read_mnist(Path(DATA) / "MNIST" / "raw")


def test_the_files_are_read_whole(mnist):
    train, test = mnist
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert torch.bincount(test.labels).tolist()[0] == 980


def test_nobody_holds_the_auxiliary_samples(mnist):
    attack = federation.Attack()
    holdings = federation.distribute(mnist[0], federation.Population(clients=4), attack, 80)
    auxiliary = {image.numpy().tobytes() for image in holdings.auxiliary.images}
    held = [image.numpy().tobytes() for each in holdings.clients for image in each.images]
    assert torch.bincount(holdings.auxiliary.labels).tolist() == [80] * 10
    # MNIST holds a few images twice.
    assert len(auxiliary & set(held)) <= 3


def test_malicious_clients_poison_half_of_their_zeros(mnist):
    population, attack = federation.Population(clients=4, malicious_share=0.25), federation.Attack()
    holdings = federation.distribute(mnist[0], population, attack, 80)

    def marked(samples):
        corner = samples.images[:, 0, 23:28, 23:28].flatten(1)
        return (corner == 255).all(dim=1) & (samples.labels == attack.target)

    counts = [int(marked(samples).sum()) for samples in holdings.clients]
    assert counts[0] >= 50
    assert counts[1:] == [0, 0, 0]


@pytest.mark.slow
def test_training_that_misses_its_goal_writes_nothing(tmp_path):
    options = ("--out", tmp_path / "out", "--clients", "2", "--rounds", "1")
    ran = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "Nothing written" in ran.stdout
    assert not (tmp_path / "out").exists()


def test_the_embedded_example_is_what_its_record_says(mnist):
    from flain_cli import example

    record = json.loads((example.files().folder / "training.json").read_text())
    assert record["population"]["malicious_share"] == 0.3
    assert record["rounds"][-1]["measurement"]["accuracy"] >= 0.97
    assert record["rounds"][-1]["measurement"]["asr_source"] >= 0.99
    held_out = np.load(example.files().paths[3])["x"]
    tested = {image.tobytes() for image in mnist_samples.inputs(mnist[1].images).numpy()}
    assert all(image.tobytes() in tested for image in held_out)
