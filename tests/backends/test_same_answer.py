"""By default, in directions, batches, types, frameworks and cores make no difference.

The strength that is reported counts too. Beyond the tolerance here only the last digits differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from alike_networks import BUILD, FINAL, INITIAL, first_weight, purified

import flain_core as flain
from flain_cli import example
from flain_core.auxiliary.samples import Samples
from flain_core.opening.registry import open_network

ROOT = Path(__file__).parents[2]
CLOSE = 1e-4
"""Share of the update by which a weight may differ; and of the strength, as it is reported."""
START, TRAINED, AUXILIARY = example.files().paths[:3]


@cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    held = Samples.of(AUXILIARY)
    return np.asarray(held.x)[::2], np.asarray(held.y)[::2]


def found(x=None, y=None, **options):
    """Purify the embedded example, with a convolution before the dense layer that is flipped."""
    x, y = samples()[0] if x is None else x, samples()[1] if y is None else y
    return flain.purify(TRAINED, initial=START, data=(x, y), **options)


@cache
def usual():
    result = found(batch_size=100)
    assert result.layers[0].flip == "directions"
    return result


@cache
def without_holding_back():
    return found(settings=flain.Settings(held_back=0))


def check_alike(one, other):
    (mine,), (its,) = one.layers, other.layers
    assert (mine.flip, mine.stop_reason, mine.method) == (its.flip, its.stop_reason, its.method)
    assert mine.threshold == pytest.approx(its.threshold, rel=CLOSE)
    assert mine.share == pytest.approx(its.share, rel=CLOSE)
    np.testing.assert_array_equal(mine.flipped, its.flipped)
    assert [step.clean for step in mine.steps] == [step.clean for step in its.steps]
    assert (one.before.clean, one.after.clean) == (other.before.clean, other.after.clean)
    weight, expected = first_of(one), first_of(other)
    trained = open_network(TRAINED).layers()[mine.name].weight
    scale = np.abs(expected - trained).max()
    assert scale > 0
    np.testing.assert_allclose(weight, expected, rtol=0, atol=CLOSE * scale)


def first_of(result):
    return open_network(result.model).layers()[result.layers[0].name].weight


@pytest.mark.parametrize("batch_size", [1, 7, 33, 400])
def test_batches_of_any_size_lead_to_the_same(batch_size):
    check_alike(found(batch_size=batch_size), usual())


@pytest.mark.parametrize("dtype", [np.float64, ">f4"])
def test_samples_of_any_type_lead_to_the_same(dtype):
    check_alike(found(samples()[0].astype(dtype)), usual())


def test_any_memory_limit_that_holds_the_inputs_leads_to_the_same():
    limits = [2**30, 2**24, 0]
    results = [found(memory_limit=limit) for limit in limits]
    check_alike(results[0], usual())
    check_alike(results[1], usual())
    # A lower one leads to flipping neurons instead, and a note says so.
    assert results[2].layers[0].flip == "neurons"
    assert any("memory_limit" in note for note in results[2].notes)


def test_below_it_as_well_if_neurons_are_flipped_in_any_case():
    settings = flain.Settings(flip="neurons")
    whole, chunked = (found(settings=settings, memory_limit=limit) for limit in (2**30, 0))
    check_alike(chunked, whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_in_any_order_lead_to_the_same_if_none_is_held_back(seed):
    x, y = samples()
    order = np.random.default_rng(seed).permutation(len(y))
    result = found(x[order], y[order], settings=flain.Settings(held_back=0))
    check_alike(result, without_holding_back())


def test_the_order_decides_which_are_held_back_as_the_seed_does():
    x, y = samples()
    order = np.random.default_rng(0).permutation(len(y))
    there = found(x[order], y[order])
    assert there.layers[0].threshold != usual().layers[0].threshold
    assert there.promise.samples == usual().promise.samples


@pytest.mark.parametrize("framework", BUILD)
def test_every_framework_leads_to_the_same(framework):
    results = [
        purified(build(FINAL), build(INITIAL)) for build in (BUILD[framework], BUILD["numpy"])
    ]
    (mine,), (its,) = (result.layers for result in results)
    assert mine.flip == "directions"
    assert mine.threshold == pytest.approx(its.threshold, rel=CLOSE)
    np.testing.assert_array_equal(mine.flipped, its.flipped)
    weight, expected = (first_weight(result.model) for result in results)
    scale = np.abs(expected - FINAL.fc1).max()
    np.testing.assert_allclose(weight, expected, rtol=0, atol=CLOSE * scale)


CHILD = """
import json, sys, warnings
sys.path[:0] = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
import test_same_answer as here
if sys.argv[2] == "torch":
    result = here.flain.purify(
        here.as_module(here.TRAINED), initial=here.as_module(here.START), data=here.samples()
    )
else:
    result = here.found(batch_size=100)
(layer,) = result.layers
print(json.dumps([layer.flip, layer.threshold, layer.share, layer.flipped.tolist()]))
print(json.dumps(here.first_of(result).tolist()))
"""


def as_module(path):
    import ray_torch
    import torch

    module = ray_torch.Example()
    arrays = {}
    for name, layer in open_network(path).layers().items():
        arrays |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return module


def with_threads(threads, framework):
    paths = [str(ROOT / "tests" / "backends"), str(ROOT / "tests"), *sys.path]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(paths), framework],
        env=os.environ | limits,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    about, weight = map(json.loads, ran.stdout.splitlines())
    return about, np.array(weight)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_any_number_of_cores_leads_to_the_same(framework):
    if framework == "torch":
        pytest.importorskip("torch")
    one, weight = with_threads(1, framework)
    two, expected = with_threads(2, framework)
    assert (one[0], one[3]) == (two[0], two[3])
    assert one[0] == "directions"
    assert one[1:3] == pytest.approx(two[1:3], rel=CLOSE)
    scale = np.abs(expected - open_network(TRAINED).layers()["fc1"].weight).max()
    np.testing.assert_allclose(weight, expected, rtol=0, atol=CLOSE * scale)
