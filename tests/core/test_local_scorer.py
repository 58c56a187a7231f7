"""Samples in memory, and what is kept of them at a layer."""

import gc
import weakref

import backdoored
import numpy as np
import pytest
from recut import OtherCut

from flain_core.errors import ModelError
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory import scorer as scoring
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

CLEAN = backdoored.samples(120, seed=11)
TRIGGERED = backdoored.triggered(60, seed=12)
_, FINAL = backdoored.networks()


class Watched:
    """The network, which knows of the inputs of its cuts which are still there."""

    def __init__(self, network):
        self.network, self.seen = network, []
        self.layers, self.predict = network.layers, network.predict

    def cut(self, layer, x):
        inputs = x.copy()
        self.seen.append(weakref.ref(inputs))
        return OtherCut(self.network.cut(layer, x), lambda _: {"inputs": inputs})

    def kept(self):
        gc.collect()
        return sum(inputs() is not None for inputs in self.seen)


def study(memory_limit, *, keeps_inputs=True, **options):
    network = Watched(FINAL)
    samples = LocalSamples.of(CLEAN, batch_size=30, memory_limit=memory_limit, **options)
    scorer = LocalScorer(samples, keeps_inputs=keeps_inputs)
    _, inputs = scorer.study(network, "fc1")
    return inputs, scorer.batches, network


def test_what_enters_the_layer_is_kept_for_directions():
    inputs, _, network = study(2**20)
    np.testing.assert_array_equal(inputs, CLEAN[0])
    assert network.kept() == 4
    assert study(2**20, keeps_inputs=False)[0] is None


@pytest.mark.parametrize(("batch_size", "expected"), [(7, 7), (60, 32)])
def test_a_proof_runs_no_more_at_once_than_a_batch(batch_size, expected, monkeypatch):
    ran = []
    monkeypatch.setattr(scoring, "prove", lambda _, few, **__: ran.append(len(few)))
    here = LocalScorer(LocalSamples.of(CLEAN, batch_size=batch_size))
    here.study(FINAL, "fc1")
    layer = FINAL.layers()["fc1"]
    here.prove(FlippingOrder(FINAL, layer, layer.weight, 2.0, np.arange(12)), seed=0)
    assert ran == [expected]


# A batch keeps 30 x 12 inputs in float32 twice and in float64 once, and 30 x 10 outputs thrice.
BYTES = 30 * 12 * (2 * 4 + 8) + 3 * 30 * 10 * 4


# Where the inputs cannot be kept there is no copy of them, which makes room for a fourth batch.
@pytest.mark.parametrize(("batches", "kept"), [(0, 0), (1, 1), (2, 2), (3, 4)])
def test_no_inputs_are_kept_where_the_memory_limit_forbids_it(batches, kept):
    inputs, found, network = study(batches * BYTES + 1)
    assert inputs is None
    assert sum(batch.cut is not None for batch in found) == kept
    assert network.kept() == kept


def test_exactly_enough_memory_is_enough():
    assert study(4 * BYTES + 1)[0] is not None
    assert study(4 * BYTES)[0] is None


def test_probes_count_as_well():
    needed = 4 * BYTES + 1
    assert study(needed, probes={"ASR": TRIGGERED})[0] is None
    assert study(2**20, probes={"ASR": TRIGGERED})[0] is not None


def test_the_probe_that_the_model_cannot_be_run_on_is_named():
    x, y = TRIGGERED

    def fails(x):
        raise ModelError(f"no samples of shape {x.shape[1:]}")

    network = Watched(FINAL)
    network.predict = lambda x: FINAL.predict(x) if x.shape[1] == 12 else fails(x)
    samples = LocalSamples.of(CLEAN, probes={"ASR": (x[:, :5], y)})
    with pytest.raises(ModelError, match=r"^probe 'ASR': no samples of shape \(5,\)$"):
        LocalScorer(samples).score_of(network)
    samples = LocalSamples.of((CLEAN[0][:, :5], CLEAN[1]))
    with pytest.raises(ModelError, match=r"^no samples of shape \(5,\)$"):
        LocalScorer(samples).score_of(network)
