"""Candidates that cost only the samples that they change."""

import tracemalloc

import backdoored
import numpy as np
import pytest
from by_neurons import BY_NEURONS
from recut import Recut

import flain_core as flain
import flain_numpy
from flain_core.errors import DataError
from flain_core.flipping_order import FlippingOrder
from flain_core.in_memory import by_sample
from flain_core.in_memory.by_batch import ByBatch
from flain_core.in_memory.by_sample import BySample
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.schedule import Schedule

CLEAN = backdoored.samples(100, seed=11)
TRIGGERED = backdoored.triggered(50, seed=12)
INITIAL, FINAL = backdoored.networks()


def with_tail(change):
    """The trained network with another tail by sample: what ``change`` makes of a cut."""
    return Recut(FINAL, lambda cut: {"tail_by_sample": change(cut)})


def model(network=FINAL, layer="fc1", window=2e-5, *, measure="score", **options):
    samples = LocalSamples.of(CLEAN, **{"probes": {"ASR": TRIGGERED}, "batch_size": 30} | options)
    scorer = LocalScorer(samples, measure=measure)
    statistics, _ = scorer.study(network, layer)
    schedule = Schedule.of(statistics.mean)
    flipping = FlippingOrder(
        network, FINAL.layers()[layer], INITIAL.layers()[layer].weight, 2.0, schedule.order
    )
    return scorer.stepper(flipping, window), flipping, schedule, scorer


@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
@pytest.mark.parametrize("at_once", [1, 3, 40])
def test_candidates_score_what_the_whole_network_scores(layer, batch_size, at_once):
    candidates, flipping, schedule, scorer = model(layer=layer, batch_size=batch_size)
    assert isinstance(candidates, BySample)
    ends = [0, 0, *schedule.n_flipped.tolist(), int(schedule.n_flipped[-1])]
    for start in range(0, len(ends), at_once):
        some = ends[start : start + at_once]
        for scored, end in zip(candidates.advance(some), some, strict=True):
            full = scorer.score_of(flipping.candidate(end))
            assert scored.clean.total == full.clean.total
            assert scored.probes["ASR"] == full.probes["ASR"]
        assert candidates.last == some[-1]


@pytest.mark.parametrize("at_once", [1, 2, 11])
def test_neurons_that_every_sample_activates_are_flipped_many_together(at_once, monkeypatch):
    """More candidates than it looks ahead at, each of them with more neurons than one product."""
    monkeypatch.setattr(by_sample, "_NEURONS_AT_ONCE", 2)
    monkeypatch.setattr(by_sample, "_BYTES_AT_ONCE", 3 * 100 * 10 * 4)
    _, usual, _, scorer = model(probes=None)
    order = usual.order[::-1]
    flipping = FlippingOrder(FINAL, usual.layer, usual.initial, 2.0, order)
    candidates = scorer.stepper(flipping, 2e-5)
    assert (candidates.lookahead, candidates.last) == (3, 0)
    ends = list(range(at_once, 12, at_once))
    for scored, end in zip(candidates.advance(ends), ends, strict=True):
        assert scored.clean.total == scorer.score_of(flipping.candidate(end)).clean.total


@pytest.mark.parametrize(("window", "uncertain"), [(1e-5, 0), (2.0, 100)])
def test_what_rounding_may_change_is_counted(window, uncertain):
    (scored,) = model(window=window, measure="probability")[0].advance([3])
    assert scored.clean.uncertain == uncertain
    assert (scored.loss.uncertain > 0.1) == bool(uncertain)


def test_only_samples_that_change_are_run():
    seen = []

    def counting(cut):
        def tail(output):
            seen.append(len(output))
            return cut.tail_by_sample(output)

        return tail

    candidates, _, schedule, _ = model(with_tail(counting), probes=None)
    active = np.count_nonzero(CLEAN[0][:, schedule.order[:4]], axis=0).tolist()
    assert active[0] == 0 < active[1] < 10 < active[3]
    for end, expected in enumerate(active, start=1):
        seen.clear()
        candidates.advance([end])
        assert seen == ([expected] if expected else [])
    seen.clear()
    candidates.advance([4, 4])
    assert seen == []


# Where samples are small, a call takes four times a batch; the 10 outputs of one are 40 bytes.
@pytest.mark.parametrize(
    ("batch_size", "bytes_per_call", "most"),
    [(7, 2**19, 28), (7, 20 * 40, 20), (7, 40, 7), (1, 40, 1), (100, 2**19, 400)],
)
def test_a_call_takes_no_more_samples_than_a_few_batches(
    batch_size, bytes_per_call, most, monkeypatch
):
    monkeypatch.setattr(by_sample, "_BYTES_PER_CALL", bytes_per_call)
    seen = []

    def counting(cut):
        return lambda output: seen.append(len(output)) or cut.tail_by_sample(output)

    candidates, *_ = model(with_tail(counting), probes=None, batch_size=batch_size)
    assert isinstance(candidates, BySample)
    candidates.advance([12])
    assert max(seen) == most


def test_what_is_kept_has_the_type_of_the_inputs():
    x = np.ones((500, 400), np.float32)
    rng = np.random.default_rng(0)
    initial, final = rng.normal(size=(2, 3, 400)).astype(np.float32)
    network = flain_numpy.Network([flain_numpy.Dense("only", final)])
    scorer = LocalScorer(LocalSamples.of((x, np.zeros(500, int)), batch_size=100))
    scorer.study(network, "only")
    flipping = FlippingOrder(network, network.layers()["only"], initial, 2.0, np.arange(400))
    tracemalloc.start()
    candidates = scorer.stepper(flipping, 2e-5)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(candidates, BySample)
    assert kept < 1.5 * x.nbytes


def test_large_scores_may_be_rounded_as_much_as_small_ones():
    *first, last = FINAL.operations
    head = flain_numpy.Dense(last.name, last.weight * np.float32(1e6), last.bias * np.float32(1e6))
    assert isinstance(model(flain_numpy.Network([*first, head]))[0], BySample)


def test_samples_of_several_candidates_share_a_call():
    calls = []

    def counting(cut):
        return lambda output: calls.append(len(output)) or cut.tail_by_sample(output)

    candidates, _, _, _ = model(with_tail(counting), probes=None)
    calls.clear()
    candidates.advance([1, 2, 3])
    assert len(calls) == 1


LIES = {
    "none": lambda cut: None,
    "in the order of the batch": lambda cut: (
        lambda output: cut.tail_by_sample(output) + np.arange(len(output))[:, None]
    ),
    "of one more sample": lambda cut: (
        lambda output: cut.tail_by_sample(output)[[0, *range(len(output))]]
    ),
    "for the whole batch alone": lambda cut: (
        lambda output: cut.tail(output.reshape(cut.output.shape))
    ),
    "of the layer as it is": lambda cut: lambda output: cut.tail(cut.output)[: len(output)],
    "not a number": lambda cut: lambda output: np.full((len(output), 3), np.nan, np.float32),
    "with the mean of the batch": lambda cut: (
        lambda output: cut.tail_by_sample(output - 0.01 * output.mean(axis=0))
    ),
    "of a hundred samples at most": lambda cut: lambda output: cut.tail_by_sample(output)[:100],
    "of one sample alone": lambda cut: (
        lambda output: cut.tail_by_sample(output) + (len(output) == 1)
    ),
    "of fewer samples than a call takes": lambda cut: (
        lambda output: cut.tail_by_sample(output) + (1 < len(output) < 120)
    ),
    "a list": lambda cut: lambda output: cut.tail_by_sample(output).tolist(),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_tail_that_scores_samples_otherwise_is_not_used(lie):
    network = with_tail(lie)
    assert isinstance(model(network)[0], ByBatch)
    given = flain.purify(network, initial=INITIAL, data=CLEAN, settings=BY_NEURONS)
    right = flain.purify(FINAL, initial=INITIAL, data=CLEAN, settings=BY_NEURONS)
    assert given.layers[0].steps == right.layers[0].steps
    assert given.layers[0].method == "incremental"


def wrong_where(found):
    """A tail that is wrong about the samples for whose pre-activations ``found`` says so."""
    return with_tail(
        lambda cut: lambda output: cut.tail_by_sample(output) + np.float32(0.01) * found(output)
    )


def among(known):
    """Of ``(m, out)`` pre-activations ``(m, 1)``: is it a row of ``known``?"""
    return lambda output: np.abs(output[:, None] - known).max(axis=2).min(axis=1)[:, None] < 1e-4


def pre_activation(network):
    return network.cut("fc1", CLEAN[0]).output


def test_a_probe_with_large_scores_hides_nothing():
    probes = {"large": (TRIGGERED[0] * 1e4, TRIGGERED[1])}
    # Flipped neurons are tried on the first batch.
    network = wrong_where(among(pre_activation(FINAL)[30:]))
    assert isinstance(model(network)[0], ByBatch)
    assert isinstance(model(network, probes=probes)[0], ByBatch)


@pytest.mark.parametrize("when", ["flipped", "halfway"])
def test_a_tail_that_is_wrong_about_flipped_neurons_alone_is_not_used(when):
    _, flipping, schedule, _ = model(probes=None)
    known = pre_activation(FINAL)
    if when == "halfway":
        known = np.vstack([known, pre_activation(flipping.candidate(int(schedule.n_flipped[-1])))])
    network = wrong_where(lambda output: ~among(known)(output))
    assert isinstance(model(network, probes=None)[0], ByBatch)


@pytest.mark.parametrize(
    "options",
    [{"memory_limit": 0}, {"memory_limit": 4000}, {"score": lambda scores, y: scores[:, 0]}],
)
def test_batches_are_followed_where_samples_cannot_be(options):
    assert isinstance(model(**options)[0], ByBatch)


def test_half_precision_is_followed_batch_by_batch():
    # A candidate that is looked ahead at may overflow there, and must not fail the search.
    final, initial = (backdoored.networks(dtype=np.float16)[i].layers()["fc1"] for i in (1, 0))
    scorer = LocalScorer(LocalSamples.of(CLEAN))
    network = backdoored.networks(dtype=np.float16)[1]
    scorer.study(network, "fc1")
    flipping = FlippingOrder(network, final, initial.weight, 2.0, np.arange(12))
    assert isinstance(scorer.stepper(flipping, 1e-2), ByBatch)


def test_labels_that_the_model_has_no_class_for_are_refused_as_ever():
    data = (CLEAN[0], np.full(100, 7))
    with pytest.raises(DataError, match="expected labels from 0 to 2"):
        flain.purify(FINAL, initial=INITIAL, data=data)


def test_large_pre_activations_are_followed_one_candidate_at_a_time():
    x = np.ones((2048, 2), np.float32)
    wide = np.random.default_rng(0).normal(size=(2048, 2))
    networks = [
        flain_numpy.Network(
            [flain_numpy.Dense("wide", weight), flain_numpy.Dense("head", np.ones((3, 2048)))]
        )
        for weight in (wide, wide + 0.1)
    ]
    samples = LocalSamples.of((x, np.zeros(2048, int)))
    scorer = LocalScorer(samples)
    scorer.study(networks[1], "wide")
    layer, initial = networks[1].layers()["wide"], networks[0].layers()["wide"].weight
    flipping = FlippingOrder(networks[1], layer, initial, 2.0, np.arange(2))
    candidates = scorer.stepper(flipping, 2e-5)
    assert isinstance(candidates, BySample)
    assert candidates.work == 2048 * 2048 * 8
    assert candidates.lookahead == 1
