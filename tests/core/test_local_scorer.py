"""Samples in memory, and what is kept of them at a layer."""

import gc
import weakref

import backdoored
import numpy as np
import pytest
from recut import OtherCut, Recut

from flain_core import Settings
from flain_core.errors import ModelError
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory import cut_batch
from flain_core.in_memory import scorer as scoring
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.proof import Proof
from flain_numpy import Conv2d, Dense, Flatten, Network

CLEAN = backdoored.samples(120, seed=11)
TRIGGERED = backdoored.triggered(60, seed=12)
INITIAL, FINAL = backdoored.networks()


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


def study(memory_limit, *, keeps_inputs=True, final=FINAL, **options):
    network = Watched(final)
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

    def noted(_, few, *, seed):
        ran.append((len(few), seed))
        return Proof(True, "proved")

    monkeypatch.setattr(scoring, "prove", noted)
    here = LocalScorer(LocalSamples.of(CLEAN, batch_size=batch_size))
    here.study(FINAL, "fc1")
    layer = FINAL.layers()["fc1"]
    here.prove(FlippingOrder(FINAL, layer, layer.weight, 2.0, np.arange(12)), seed=5)
    assert ran == [(expected, 5)]


# A batch keeps 30 x 12 inputs in float32 twice, and 30 x 10 outputs thrice. A fit takes in float64
# the inputs once, the outputs twice, and a number for each sample; and four matrices over the 12
# inputs, as the samples are more.
WITHOUT_FIT = 30 * 12 * 2 * 4 + 3 * 30 * 10 * 4
BYTES = WITHOUT_FIT + 30 * (12 + 2 * 10 + 1) * 8
ROOT = 4 * 12 * 12 * 8


# Where a batch is not kept, it takes the place of another while it is at work. Where the inputs
# cannot be kept nothing is fitted, which makes room for others.
@pytest.mark.parametrize(("batches", "kept"), [(0, 0), (1, 1), (2, 4), (3, 4)])
def test_no_inputs_are_kept_where_the_memory_limit_forbids_it(batches, kept):
    inputs, found, network = study(batches * BYTES + 1)
    assert inputs is None
    assert sum(batch.cut is not None for batch in found) == kept
    assert network.kept() == kept


# The fourth batch is not kept where there is room for three, and the third takes its place.
@pytest.mark.parametrize(
    ("memory_limit", "kept"),
    [
        (3 * WITHOUT_FIT, 1),
        (3 * WITHOUT_FIT + 1, 2),
        (4 * WITHOUT_FIT, 2),
        (4 * WITHOUT_FIT + 1, 4),
    ],
)
@pytest.mark.parametrize("keeps_inputs", [True, False])
def test_inputs_that_are_not_kept_take_no_room(memory_limit, kept, keeps_inputs):
    inputs, found, _ = study(memory_limit, keeps_inputs=keeps_inputs)
    assert inputs is None
    assert sum(batch.cut is not None for batch in found) == kept


def test_the_inputs_of_a_layer_of_half_precision_are_not_kept():
    first, *rest = FINAL.operations
    half = Dense("fc1", first.weight.astype(np.float16), first.bias)
    assert study(2**20, final=Network([half, *rest]))[0] is None


def test_inputs_that_were_given_up_stay_so():
    samples = LocalSamples.of(CLEAN, batch_size=15, memory_limit=3 * BYTES + 1)
    scorer = LocalScorer(samples, keeps_inputs=True)
    assert scorer.study(FINAL, "fc1")[1] is None
    assert [batch.cut is not None for batch in scorer.batches] == 8 * [True]


def test_a_scorer_keeps_and_measures_nothing_that_was_not_asked_for():
    scorer = LocalScorer(LocalSamples.of(CLEAN))
    assert scorer.score_of(FINAL).loss is None
    assert scorer.study(FINAL, "fc1")[1] is None
    tokens = LocalSamples.of((CLEAN[0].reshape(120, 3, 4), CLEAN[1]))
    network = Network([Dense("each", np.eye(5, 4, dtype=np.float32)), Flatten()])
    assert LocalScorer(tokens).study(network, "each")[1] is None
    assert LocalScorer(tokens, keeps_inputs=True).study(network, "each")[1].shape == (120, 4, 3)
    images = LocalSamples.of((CLEAN[0].reshape(120, 1, 3, 4), CLEAN[1]))
    network = Network([Conv2d("conv", np.ones((2, 1, 3, 4), np.float32), np.zeros(2)), Flatten()])
    assert LocalScorer(images, keeps_inputs=True).study(network, "conv")[1] is None


def test_probes_are_run_unless_told_otherwise():
    scorer = LocalScorer(LocalSamples.of(CLEAN, probes={"ASR": TRIGGERED}))
    assert set(scorer.score_of(FINAL).probes) == {"ASR"}
    assert not scorer.score_of(FINAL, probes=False).probes


def test_losses_count_from_the_trained_model_anew_in_each_search_of_it():
    """A cut may say wrongly what the trained model scores; a search in full starts from the truth.

    Of a model that was changed since, they count from the trained one still.
    """
    layer = FINAL.layers()["fc1"]
    lying = Recut(FINAL, lambda cut: {"tail": lambda output: cut.tail(output) * 2})
    lying_too = Recut(FINAL, lying.change)
    scorer = LocalScorer(LocalSamples.of(CLEAN, memory_limit=0), measure="probability")

    def lost(network, window):
        scorer.study(network, "fc1")
        flipping = FlippingOrder(network, layer, layer.weight - 1, 2.0, np.arange(12))
        with scorer.candidates(flipping, window=window) as candidates:
            return candidates.advance([0])[0].loss.total

    assert lost(lying, 1e-6) == lost(lying, None) == 0
    assert lost(lying_too, None) == 0
    assert lost(lying_too, 1e-6) < -0.01


def test_fewer_samples_are_at_work_where_a_layer_takes_much_more_than_they_do(monkeypatch):
    monkeypatch.setattr(cut_batch, "_BYTES_AT_WORK", 9 * WITHOUT_FIT // 10)
    held = LocalSamples.of(CLEAN, probes={"ASR": TRIGGERED}, memory_limit=BYTES)
    scorer = LocalScorer(held, keeps_inputs=True)
    statistics, _ = scorer.study(FINAL, "fc1")
    assert held.clean.usual_batch == 256
    assert 10 < scorer.batch_size < 30
    sizes = [len(batch.samples) for batch in scorer.batches]
    assert sum(sizes) == 120 + len(TRIGGERED[1])
    assert max(sizes) == scorer.batch_size
    assert scorer.score_of(FINAL) == LocalScorer(held).score_of(FINAL)
    whole, _ = LocalScorer(LocalSamples.of(CLEAN)).study(FINAL, "fc1")
    np.testing.assert_allclose(statistics.mean, whole.mean, rtol=1e-6)


def test_a_batch_is_as_large_as_the_caller_says(monkeypatch):
    monkeypatch.setattr(cut_batch, "_BYTES_AT_WORK", 9 * WITHOUT_FIT // 10)
    network, ran = Watched(FINAL), []
    network.predict = lambda x: ran.append(len(x)) or FINAL.predict(x)
    scorer = LocalScorer(LocalSamples.of(CLEAN, batch_size=60, memory_limit=BYTES))
    scorer.score_of(network)
    assert ran == [60, 60]
    scorer.study(FINAL, "fc1")
    assert [len(batch.samples) for batch in scorer.batches] == [60, 60]


@pytest.mark.parametrize(
    ("device", "fewer"), [("cpu", True), ("TFRT_CPU_0", True), ("cuda:0", False), ("GPU:0", False)]
)
def test_an_accelerator_takes_whole_batches(device, fewer, monkeypatch):
    class Output(np.ndarray):
        pass

    Output.device = device
    monkeypatch.setattr(cut_batch, "_BYTES_AT_WORK", 1)
    cut = FINAL.cut("fc1", CLEAN[0])
    there = OtherCut(cut, lambda cut: {"output": cut.output.view(Output)})
    assert cut_batch.most_at_once(there) == (1 if fewer else 120)


def test_samples_held_back_are_run_in_such_batches_too(monkeypatch):
    monkeypatch.setattr(cut_batch, "_BYTES_AT_WORK", 1)
    ran = []

    class Counting(Watched):
        def __init__(self, network):
            super().__init__(network)
            self.predict = lambda x: ran.append(len(x)) or network.predict(x)

    settings = Settings(held_back=0.5).resolved(classify=True, local=True)
    scorer = LocalSamples.of(CLEAN, memory_limit=0).scorer(Counting(FINAL), settings, seed=0)
    scorer.study(FINAL, "fc1")
    scorer.held_back.newly_wrong(FINAL)
    assert set(ran) == {1}


def test_exactly_enough_memory_is_enough():
    assert study(4 * BYTES + ROOT + 1)[0] is not None
    assert study(4 * BYTES + ROOT)[0] is None


def test_probes_count_as_well():
    needed = 4 * BYTES + ROOT + 1
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
    network.cut = lambda layer, x: FINAL.cut(layer, x) if x.shape[1] == 12 else fails(x)
    with pytest.raises(ModelError, match=r"^probe 'ASR': no samples of shape \(5,\)$"):
        LocalScorer(samples).study(network, "fc1")
    samples = LocalSamples.of((CLEAN[0][:, :5], CLEAN[1]))
    with pytest.raises(ModelError, match=r"^no samples of shape \(5,\)$"):
        LocalScorer(samples).score_of(network)


@pytest.mark.parametrize("by_batch", [False, True])
def test_only_what_rounding_could_decide_runs_the_whole_network(by_batch):
    """A wide window stands for coarse rounding, by which a model that is run favours a class."""
    ran = []
    favour = 0.005 * np.abs(FINAL.predict(CLEAN[0])).max() * np.eye(3)[0]

    class Counted(Recut):
        def __init__(self, network, change):
            super().__init__(network, change)
            self.predict = lambda x: ran.append(len(x)) or network.predict(x) + favour

        def replace(self, weights, biases=None):
            return Counted(self.network.replace(weights, biases), self.change)

    network = Counted(FINAL, lambda cut: {"tail_by_sample": None} if by_batch else {})
    scorer = LocalScorer(LocalSamples.of(CLEAN, batch_size=30))
    scorer.study(network, "fc1")
    layer = FINAL.layers()["fc1"]
    order = FlippingOrder(network, layer, INITIAL.layers()["fc1"].weight, 2.0, np.arange(12))
    numbers = [0, 4, 8, 12]
    with scorer.candidates(order, window=0.02) as candidates:
        quick = candidates.advance(numbers)
        doubtful = [pair for pair in zip(numbers, quick, strict=True) if pair[1].clean.uncertain]
        changed = 0
        for number, scored in doubtful:
            del ran[:]
            exact = candidates.score_in_full(number)
            assert sum(ran) == scored.clean.uncertain
            assert exact.clean == scorer.score_of(order.candidate(number)).clean
            assert exact.loss is None
            changed += exact.clean.total != scored.clean.total
    assert 0 < max(scored.clean.uncertain for _, scored in doubtful) < len(CLEAN[0])
    assert changed


def test_where_a_loss_is_measured_every_sample_runs_the_whole_network():
    scorer = LocalScorer(LocalSamples.of(CLEAN, batch_size=30), measure="probability")
    scorer.study(FINAL, "fc1")
    layer = FINAL.layers()["fc1"]
    order = FlippingOrder(FINAL, layer, INITIAL.layers()["fc1"].weight, 2.0, np.arange(12))
    with scorer.candidates(order, window=0.02) as candidates:
        candidates.advance([0, 6])
        exact = candidates.score_in_full(6)
    assert exact.loss == scorer.score_of(order.candidate(6)).loss
