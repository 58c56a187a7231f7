"""Scripts that start a Ray cluster of their own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import backdoored
import numpy as np
import pytest
import ray_parts
from in_process import as_elsewhere

import flain_core as flain

pytest.importorskip("ray")

pytestmark = pytest.mark.slow

# Keras takes one engine in a process, and a script's classes belong to __main__.

KERAS = """
import keras
import numpy as np
import backdoored, flain_keras
import flain_core as flain
from flain_numpy import Dense

def made(network):
    x = keras.Input((12,))
    dense = [each for each in network.operations if isinstance(each, Dense)]
    h = x
    for each in dense:
        last = each is dense[-1]
        h = keras.layers.Dense(len(each.weight), None if last else "relu")(h)
    model = keras.Model(x, [-h, h])
    model.set_weights([array for each in dense for array in (each.weight.T, each.bias)])
    return model

initial, final = map(made, backdoored.networks())
final = flain_keras.open_network(final, scores=1)
initial = flain_keras.open_network(initial, like=final, scores=1)

arrived, (engine, *rest) = final.__reduce__()
assert engine == "torch"
try:
    arrived("jax", *rest)
except flain.ModelError as error:
    assert "set KERAS_BACKEND=jax" in str(error)
else:
    raise AssertionError
data = backdoored.samples(300, seed=11)
"""
SCRIPT = """
import torch
from torch import nn
import backdoored
import flain_core as flain
from flain_numpy import Dense

torch.set_num_threads(1)

class Mine(nn.Module):
    def __init__(self, network):
        super().__init__()
        dense = [each for each in network.operations if isinstance(each, Dense)]
        for each in dense:
            layer = nn.Linear(each.weight.shape[1], each.weight.shape[0])
            layer.weight.data = torch.tensor(each.weight)
            layer.bias.data = torch.tensor(each.bias)
            setattr(self, each.name, layer)

    def forward(self, x):
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())

initial, final = map(Mine, backdoored.networks())
data = backdoored.samples(300, seed=11)
"""
COMPARE = """
import numpy as np
import ray, flain_ray

with flain_ray.Shards(data, actors=2) as shards:
    assert ray.is_initialized()
    result = flain.purify(final, initial=initial, data=shards)
assert not ray.is_initialized()
settings = flain.Settings(flip="neurons", held_back=0)
here = flain.purify(
    final, initial=initial, data=data, batch_size=shards.batch_size, settings=settings
)
layer, other = result.layers[0], here.layers[0]
assert layer.method == "incremental" and layer.flipped.any()
assert layer.threshold == other.threshold and len(layer.steps) == len(other.steps)
np.testing.assert_array_equal(layer.flipped, other.flipped)
weights = lambda model: model.get_weights() if hasattr(model, "get_weights") else [
    each.numpy() for each in model.state_dict().values()]
for one, another in zip(weights(result.model), weights(here.model), strict=True):
    np.testing.assert_array_equal(one, another)
print("as here")
"""


def run(script, **environment):
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # A cluster that somebody else runs on this machine is none of ours.
    own = {"RAY_ADDRESS": "local"}
    return subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | quiet | own | {"PYTHONPATH": ray_parts.PATH} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_class_of_a_script_reaches_the_actors_of_a_cluster_started_for_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + COMPARE)
    ran = run(script)
    assert ran.stdout.endswith("as here\n"), ran.stderr[-3000:]


def test_a_keras_model_with_a_chosen_output_is_purified_as_here(tmp_path):
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    script = tmp_path / "script.py"
    script.write_text(KERAS + COMPARE)
    ran = run(script, KERAS_BACKEND="torch")
    assert ran.stdout.endswith("as here\n"), ran.stderr[-3000:]


def test_workers_without_flain_are_told_of_and_can_be_sent_it():
    driver = Path(__file__).parents[1] / "ray_bare" / "driver.py"
    environment = os.environ | {"PYTHONPATH": ray_parts.PATH, "RAY_USAGE_STATS_ENABLED": "0"}

    def ran(*words):
        run = subprocess.run(
            [sys.executable, driver, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=80,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert (
        "\nModelError: the workers of the Ray cluster have no flain; nothing was purified. Send it "
        "along, ray.init(runtime_env=flain_ray.runtime_env()) before the shards, or install it on "
        "every machine\n"
    ) in ran()
    initial, final = backdoored.networks()
    expected = flain.purify(
        final,
        initial=initial,
        data=backdoored.samples(200, seed=11),
        batch_size=100,
        settings=as_elsewhere(),
    )
    flipped = np.flatnonzero(expected.layers[0].flipped).tolist()
    assert f"flipped {flipped}\n" in ran("ships")
