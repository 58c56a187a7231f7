"""Candidates in directions, each at the cost of matrix products and a tail."""

import tracemalloc
from contextlib import nullcontext

import backdoored
import numpy as np
import pytest
from recut import Recut

from flain_core.auxiliary.samples import Samples
from flain_core.errors import DataError
from flain_core.in_directions.directions import Directions, InputSpace
from flain_core.in_memory import scorer as scorer_module
from flain_core.in_memory.by_direction import by_direction, takes_outputs
from flain_core.in_memory.cut_batch import CutBatch
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.tallies import Tally

CLEAN = backdoored.samples(100, seed=11)
TRIGGERED = backdoored.triggered(50, seed=12)
INITIAL, FINAL = backdoored.networks()
WEIGHT = FINAL.layers()["fc1"].weight
NUMBERS = [0, 1, 30, 45, 60, 65]


def model(window=1e-6, network=FINAL, **options):
    samples = LocalSamples.of(CLEAN, probes={"ASR": TRIGGERED}, batch_size=30, **options)
    scorer = LocalScorer(samples, measure="probability", keeps_inputs=True)
    _, inputs = scorer.study(network, "fc1")
    layer, initial = FINAL.layers()["fc1"], INITIAL.layers()["fc1"].weight
    space = InputSpace.of(inputs, bias=True)
    directions = Directions(network, layer, initial, 2.0, space)
    scorer.score_of(network)  # losses are counted from it

    def never(number):
        raise AssertionError("no candidate in directions is scored anew in full")

    candidates = by_direction(scorer.batches, directions, scorer.grader, window, never)
    return candidates, directions, scorer


def test_what_is_written_scores_what_the_whole_network_scores():
    candidates, directions, scorer = model()
    for number in NUMBERS:
        full, promised = (
            scorer.score_of(directions.candidate(number)),
            candidates.as_written(number),
        )
        assert promised.clean.total == full.clean.total
        assert promised.probes["ASR"].total == full.probes["ASR"].total
        for name in ("total", "square", "newly_wrong", "before"):
            expected = pytest.approx(getattr(full.loss, name), rel=1e-4, abs=1e-5)
            assert getattr(promised.loss, name) == expected


def test_so_does_every_sample_of_a_probe():
    """A score of the caller's, as it moves with each of their scores."""
    candidates, directions, scorer = model(score=lambda scores, y: scores[:, 0] - scores[:, 2])
    for number in NUMBERS:
        full, promised = (
            scorer.score_of(directions.candidate(number)),
            candidates.as_written(number),
        )
        assert promised.clean.mean == pytest.approx(full.clean.mean, rel=1e-4)
        assert promised.probes["ASR"].mean == pytest.approx(full.probes["ASR"].mean, rel=1e-4)


def test_a_tail_is_given_numbers_of_the_layers_type():
    kinds = set()

    def change(cut):
        def tail_by_sample(output):
            kinds.add(output.dtype)
            return cut.tail(output)

        return {"tail_by_sample": tail_by_sample}

    model(network=Recut(FINAL, change))[0].advance(NUMBERS)
    assert kinds == {np.dtype(np.float32)}


def test_a_candidate_is_judged_by_weights_that_were_fitted_without_each_sample():
    candidates, directions, _ = model()
    cut = FINAL.cut("fc1", CLEAN[0])
    differs = False
    for number, scored in zip(NUMBERS, candidates.advance(NUMBERS), strict=True):
        unseen = directions.taken(number, unseen=True) if number else 0
        expected = cut.tail(cut.output - np.float32(unseen)).argmax(axis=1) == CLEAN[1]
        assert scored.clean.total == expected.sum()
        written = candidates.as_written(number)
        # A probe had no part in the fit.
        assert scored.probes == written.probes
        differs = differs or scored.loss.total > written.loss.total + 1e-3
    assert differs


def test_what_rounding_may_change_is_counted_and_asks_for_no_other_run():
    (scored,) = model(window=2.0)[0].advance([30])
    assert scored.clean.uncertain == 100
    assert scored.loss.uncertain == 0
    assert model(window=0.0)[0].advance([30])[0].clean.uncertain == 0


def test_the_inputs_are_the_work(monkeypatch):
    work = []
    _, directions, scorer = model()
    monkeypatch.setattr(scorer_module, "one_thread_for", lambda of: nullcontext(work.append(of)))
    with scorer.candidates(directions, window=1e-6) as candidates:
        # One of the twelve never varies here.
        assert work == [100 * 11 * 8]
    assert candidates.as_written is not None


def batches(change=lambda cut: {}):
    samples = Samples.of(CLEAN)
    cut = Recut(FINAL, change).cut("fc1", CLEAN[0])
    return [CutBatch(None, samples, cut), CutBatch(None, samples, FINAL.cut("fc1", CLEAN[0]))]


def failing(output):
    raise RuntimeError("no such batch")


def tail(change):
    return lambda cut: {"tail_by_sample": lambda output: change(cut.tail(output))}


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda cut: {}, True),
        (lambda cut: {"tail_by_sample": None}, True),
        (lambda cut: {"tail_by_sample": failing}, False),
        (tail(lambda scores: scores[:, :2]), False),
        (tail(lambda scores: scores * (1 + 1e-6)), True),
        (tail(lambda scores: scores * (1 + 1e-4)), False),
        (tail(lambda scores: scores * np.nan), False),
        (lambda cut: {"tail": lambda output: cut.tail(output) * np.inf}, False),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_only_tails_that_score_given_outputs_alike_take_them(change, taken):
    assert takes_outputs(batches(change), WEIGHT) is taken
    assert takes_outputs(batches(change)[::-1], WEIGHT) is taken


def test_a_batch_that_was_not_kept_takes_none():
    kept = batches()
    assert not takes_outputs([kept[0], CutBatch(None, kept[1].samples, None)], WEIGHT)


def layer_takes_outputs(x, output, weight):
    cut = {"inputs": x, "output": output, "tail": lambda output: output, "tail_by_sample": None}
    samples = Samples.of((x, np.arange(len(x))))
    return takes_outputs(
        [CutBatch(None, samples, Recut(FINAL, lambda _: cut).cut("fc1", CLEAN[0]))], weight
    )


@pytest.mark.parametrize("outputs", [7, 15])
def test_a_batch_that_was_filled_up_takes_none(outputs):
    """Some of its rows belong to no sample; as numbers they may be a multiple of the samples'."""
    weight = np.ones((outputs, 6), np.float32)
    x = np.random.default_rng(0).random((12, 6)).astype(np.float32)
    assert layer_takes_outputs(x, x @ weight.T, weight)
    assert not layer_takes_outputs(x[:10], x @ weight.T, weight)


@pytest.mark.parametrize("tokens", [1, 3])
def test_the_order_of_outputs_is_seen_without_a_copy_of_a_weight(tokens):
    weight = np.ones((500, 600), np.float32)
    x = np.random.default_rng(0).random((4, 600, tokens)).astype(np.float32)
    output = x.swapaxes(1, 2) @ weight.T
    tracemalloc.start()
    assert layer_takes_outputs(x, output, weight)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < weight.nbytes


def test_outputs_beyond_their_type_take_none():
    weight = np.ones((2, 3), np.float32)
    x = np.zeros((4, 3, 5), np.float32)
    x[:, :, 1], x[:, :, 3] = 3e38, -3e38
    with np.errstate(all="ignore"):
        output = x.swapaxes(1, 2) @ weight.T
    assert not layer_takes_outputs(x, output, weight)


def test_a_layer_that_multiplies_from_the_left_takes_none():
    weight = np.arange(15, dtype=np.float32).reshape(3, 5) + 1
    x = np.random.default_rng(0).random((4, 5, 7)).astype(np.float32)
    alike = np.repeat(x[:, :, :1], 7, axis=2)

    def taken(x, output, weight=weight):
        return layer_takes_outputs(x, output, weight)

    for tokens in (x, alike):
        by_row = tokens.swapaxes(1, 2) @ weight.T + 1
        assert taken(tokens, by_row)
        assert not taken(tokens, by_row, weight[:2])
    # Two tokens show it too, and so do small numbers.
    for tokens in (x, x[:, :, :2], 1e-4 * x):
        assert not taken(tokens, weight @ tokens + 1)


@pytest.mark.filterwarnings("error:overflow")
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("of_probes", [False, True])
def test_pre_activations_beyond_their_type_are_refused_in_one_error(of_probes, monkeypatch):
    candidates, directions, _ = model()
    far = -1e39
    if of_probes:
        rows, columns = directions.layer.weight.shape
        change = slice(None), np.full((rows, columns), far)
        monkeypatch.setattr(Directions, "changes", lambda *_: iter([change]))
    else:
        monkeypatch.setattr(
            Directions,
            "taken",
            lambda self, number, *, unseen: np.full((len(CLEAN[0]), len(WEIGHT)), far),
        )
    with pytest.raises(DataError, match="infinity"):
        candidates.advance([30])


def test_scores_add_up_over_batches():
    scored = model()[0].as_written(0)
    right = (FINAL.predict(CLEAN[0]).argmax(axis=1) == CLEAN[1]).sum()
    assert scored.clean == Tally(right, 100, scored.clean.uncertain)
    assert scored.loss.total == pytest.approx(0, abs=1e-6)
