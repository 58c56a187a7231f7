"""A Ray cluster of two processes, and purifications on it beside the same ones here."""

import gc
import warnings
from contextlib import contextmanager
from dataclasses import replace

import backdoored
import numpy as np
import pytest
import ray
import ray_parts
from in_process import as_elsewhere

import flain_core as flain
import flain_ray
from flain_cli import example

INITIAL, FINAL = backdoored.networks()
CLEAN = backdoored.samples(300, seed=11)
EXAMPLE = dict(zip(("initial", "final", "data"), example.files().paths[:3], strict=True))


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for all tests of a module that imports the fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", ray_parts.PATH)
        with ray_warns_of_itself():
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
            gc.collect()
        yield
        with ray_warns_of_itself():
            ray.shutdown()
            gc.collect()


@contextmanager
def ray_warns_of_itself():
    """Ray leaves log files and processes to the garbage collector, and has a tip for everyone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)
        yield


def shards(data=CLEAN, **options):
    return flain_ray.Shards(data, **{"actors": 2} | options)


def assert_same(result, expected):
    assert result.before == expected.before
    assert result.after == expected.after
    # Why nothing is promised differs.
    notes, others = (
        [note for note in each.notes if not note.startswith("nothing is promised")]
        for each in (result, expected)
    )
    assert notes == others
    for layer, other in zip(result.layers, expected.layers, strict=True):
        assert layer.threshold == other.threshold
        assert layer.stop_reason == other.stop_reason
        assert layer.method == other.method == "incremental"
        assert_same_steps(layer.steps, other.steps)
        np.testing.assert_array_equal(layer.flipped, other.flipped)
        np.testing.assert_array_equal(layer.activation, other.activation)
        assert layer.flipped.any()


def assert_same_steps(steps, others):
    """But for the last digits of losses, and for bounds on rounding with what follows from them.

    Both depend on the parts, so that a candidate at the crossing may be recomputed here alone.
    """
    losses, expected = ([step.loss for step in each] for each in (steps, others))
    assert losses == (expected if None in expected else pytest.approx(expected, abs=1e-6))
    of_parts = {"loss": None, "loss_error": None, "rounding": 0, "recomputed": False}
    without = [[replace(step, **of_parts) for step in each] for each in (steps, others)]
    assert without[0] == without[1]


def assert_same_weights(model, expected):
    for name, layer in expected.layers().items():
        np.testing.assert_array_equal(model.layers()[name].weight, layer.weight)


def both(data, final, initial, probes=None, score=flain.accuracy, spread=None, **options):
    """The purification on the cluster, and the one of the same samples here."""
    with shards(data, probes=probes, score=score, **spread or {}) as held:
        result = flain.purify(final, initial=initial, data=held, **options)
    size = held.batch_size
    here = {"data": data, "probes": probes, "score": score, "batch_size": size}
    options["settings"] = as_elsewhere(options.get("settings"))
    return result, flain.purify(final, initial=initial, **here, **options)


def here(final=FINAL, initial=INITIAL):
    settings = as_elsewhere()
    return flain.purify(final, initial=initial, data=CLEAN, batch_size=150, settings=settings)
