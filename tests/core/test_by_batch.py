"""Candidates that cost a tail on every batch, one by one and several at a time."""

from types import SimpleNamespace

import backdoored
import numpy as np
import pytest
from by_neurons import BY_NEURONS
from recut import Recut

import flain_core as flain
import flain_numpy
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory import by_batch
from flain_core.in_memory.by_batch import ByBatch
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.schedule import Schedule
from flain_numpy import Dense

CLEAN = backdoored.samples(100, seed=11)
TRIGGERED = backdoored.triggered(50, seed=12)
INITIAL, FINAL = backdoored.networks()
BATCHES_ALONE = Recut(FINAL, lambda cut: {"tail_by_sample": None})


def together(network, calls):
    """A network whose cuts take several pre-activations at once, and count how often."""

    def change(cut):
        def tails(outputs):
            calls.append(len(outputs))
            return [cut.tail(output) for output in outputs]

        return {"tails": tails, "tail_by_sample": None}

    return Recut(network, change)


def model(samples, window=1e-6, network=BATCHES_ALONE):
    scorer = LocalScorer(samples)
    statistics, _ = scorer.study(network, "fc1")
    schedule = Schedule.of(statistics.mean)
    layer = FINAL.layers()["fc1"]
    flipping = FlippingOrder(network, layer, INITIAL.layers()["fc1"].weight, 2.0, schedule.order)
    candidates = scorer.stepper(flipping, window)
    assert isinstance(candidates, ByBatch)
    return candidates, flipping, schedule, scorer


@pytest.mark.parametrize("memory_limit", [0, 20_000, 2**30])
@pytest.mark.parametrize("at_once", [1, 2, 5, 12])
@pytest.mark.parametrize("network", [BATCHES_ALONE, together(FINAL, [])])
def test_candidates_score_what_the_whole_network_scores(memory_limit, at_once, network):
    samples = LocalSamples.of(
        CLEAN, probes={"ASR": TRIGGERED}, batch_size=30, memory_limit=memory_limit
    )
    candidates, flipping, schedule, scorer = model(samples, network=network)
    ends = schedule.n_flipped.tolist()
    for start in range(0, len(ends), at_once):
        some = ends[start : start + at_once]
        for scored, end in zip(candidates.advance(some), some, strict=True):
            full = scorer.score_of(flipping.candidate(end))
            assert scored.clean.total == full.clean.total
            assert scored.probes["ASR"].total == full.probes["ASR"].total
        assert candidates.last == some[-1]


def test_scores_of_several_candidates_on_a_batch_lie_in_one_array():
    seen = []

    def score(scores, y):
        seen.append(scores)
        return (scores.argmax(1) == y).astype(float)

    samples = LocalSamples.of(CLEAN, batch_size=30, memory_limit=0, score=score)
    candidates, *_, scorer = model(samples)
    scorer.score_of(FINAL)
    seen.clear()
    candidates.advance([1, 2, 3])
    assert len(seen) == 3 * 4
    arrays = [id(scores.base) for scores in seen]
    assert {arrays.count(each) for each in arrays} == {3}


def test_scores_may_have_another_shape_in_each_batch():
    def padded(cut):
        widened = 1 + len(cut.inputs) % 7
        return {
            "tail": lambda output: np.pad(cut.tail(output), ((0, 0), (0, widened))),
            "tail_by_sample": None,
        }

    def score(scores, y):
        assert (scores[:, 3:] == 0).all()
        return (scores[:, :3].argmax(1) == y).astype(float)

    options = {"batch_size": 30, "memory_limit": 0, "score": score}
    candidates, *_ = model(LocalSamples.of(CLEAN, **options), network=Recut(FINAL, padded))
    usual, *_ = model(LocalSamples.of(CLEAN, **options))
    for other, one in zip(candidates.advance([2, 4]), usual.advance([2, 4]), strict=True):
        assert other.clean.total == one.clean.total


@pytest.mark.parametrize(("window", "uncertain"), [(0.0, 0), (2.0, 100)])
def test_what_rounding_may_change_is_counted(window, uncertain):
    (scored,) = model(LocalSamples.of(CLEAN), window)[0].advance([3])
    assert scored.clean.uncertain == uncertain


def test_one_candidate_at_a_time_where_nothing_is_shared():
    assert model(LocalSamples.of(CLEAN))[0].lookahead == 1


@pytest.mark.parametrize("memory_limit", [0, 20_000])
def test_several_at_a_time_where_some_would_cut_anew(memory_limit):
    samples = LocalSamples.of(CLEAN, memory_limit=memory_limit, batch_size=30)
    scorer = LocalScorer(samples)
    scorer.study(FINAL, "fc1")
    kept = [batch.cut is not None for batch in scorer.batches]
    assert any(kept) == bool(memory_limit)
    assert not all(kept)
    assert model(samples)[0].lookahead > 1


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_not_more_at_once_than_memory_is_meant_for(memory_limit):
    rng = np.random.default_rng(0)
    wide, head = rng.normal(size=(4000, 12)), rng.normal(size=(3, 4000))
    calls = []
    networks = (
        flain_numpy.Network([Dense("wide", weight), flain_numpy.ReLU(), Dense("head", head)])
        for weight in (wide, wide + rng.normal(size=wide.shape) * 0.01)
    )
    initial, final = networks
    batch = 256
    samples = LocalSamples.of(
        backdoored.samples(batch, seed=3), memory_limit=memory_limit, batch_size=batch
    )
    scorer = LocalScorer(samples)
    scorer.study(together(final, calls), "wide")
    layer, first = final.layers()["wide"], initial.layers()["wide"].weight
    flipping = FlippingOrder(together(final, calls), layer, first, 2.0, np.arange(12))
    scorer.stepper(flipping, 1e-6).advance(range(1, 13))
    assert sum(calls) == 12
    assert max(calls) * batch * 4000 * 8 <= 32 * 2**20


def test_a_cut_that_takes_several_at_once_is_given_several():
    calls = []
    at_once = flain.purify(together(FINAL, calls), initial=INITIAL, data=CLEAN, settings=BY_NEURONS)
    alone = flain.purify(FINAL, initial=INITIAL, data=CLEAN, settings=BY_NEURONS)
    assert max(calls) > 5
    assert at_once.layers[0].threshold == alone.layers[0].threshold
    np.testing.assert_array_equal(at_once.layers[0].flipped, alone.layers[0].flipped)
    assert at_once.layers[0].steps == alone.layers[0].steps


def test_more_candidates_are_computed_at_once_where_a_device_would_be_waited_for():
    there, here = SimpleNamespace(device="cuda:0"), np.zeros(1)
    assert [by_batch._few(each, 2**20) for each in (there, here)] == [256, 32]
    assert by_batch._few(there, 2**40) == 1
