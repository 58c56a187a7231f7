"""Scores graded: how they are read, what they are worth, and what was lost since the first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flain_core as flain
from flain_core.in_memory.grader import Grader
from flain_core.outputs import Reading
from flain_core.score import margins
from flain_core.tallies import Tally

LABELS = np.array([0, 1, 2, 1, 0, 2])
LOGITS = Reading("logits", single=False, stated=True)


def scores(seed, labels=LABELS):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(labels), 3)) + 2 * np.eye(3)[labels]


def probability(some):
    """The probability of each sample's class."""
    shares = np.exp(some) / np.exp(some).sum(axis=1, keepdims=True)
    return shares[np.arange(len(LABELS)), LABELS]


def in_batches(some, edges, probe=None):
    parts = np.split(np.arange(len(LABELS)), edges)
    return [(probe, LABELS[part], some[part]) for part in parts if part.size]


def test_losses_are_counted_from_the_model_that_was_graded_first():
    grader = Grader(measure="probability")
    trained, purified = scores(0), scores(1)
    first = grader.grade(in_batches(trained, [])).loss
    assert (first.total, first.square, first.newly_wrong, first.count) == (0, 0, 0, 6)
    assert first.before == pytest.approx(probability(trained).sum(), rel=1e-12)
    assert first.missing == pytest.approx(1 - probability(trained).mean(), rel=1e-12)
    for _ in range(2):
        graded = grader.grade(in_batches(purified, []))
        lost = probability(trained) - probability(purified)
        right = [each.argmax(axis=1) == LABELS for each in (trained, purified)]
        assert graded.loss.total == pytest.approx(lost.sum(), rel=1e-9)
        assert graded.loss.square == pytest.approx((lost**2).sum(), rel=1e-9)
        assert graded.loss.newly_wrong == (right[0] & ~right[1]).sum()
        assert graded.loss.before == first.before
        assert graded.clean == Tally(int(right[1].sum()), 6)


def test_newly_wrong_are_those_that_were_right():
    grader = Grader(measure="probability")
    right, wrong = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]
    labels = np.zeros(4, int)
    grader.grade([(None, labels, np.array([right, right, wrong, wrong]))])
    now = grader.grade([(None, labels, np.array([right, wrong, right, wrong]))])
    assert now.loss.newly_wrong == 1
    assert now.clean.total == 2
    assert now.loss.total == pytest.approx(0.0, abs=1e-12)
    assert now.loss.square > 1.9


def test_counting_starts_anew_where_it_is_told_to():
    grader = Grader(measure="probability")
    grader.grade(in_batches(scores(0), []))
    grader.start_anew()
    assert grader.grade(in_batches(scores(1), [])).loss.total == 0
    assert grader.grade(in_batches(scores(0), [])).loss.total != 0


@given(st.lists(st.integers(1, 5), unique=True).map(sorted), st.integers(0, 5))
def test_several_batches_equal_one(edges, seed):
    one, other = Grader(measure="probability"), Grader(measure="probability")
    for each in (seed, seed + 1, seed + 2):
        whole = one.grade(in_batches(scores(each), []), window=1e-6)
        parts = other.grade(in_batches(scores(each), edges), window=1e-6)
        assert parts.clean == whole.clean
        assert parts.loss.newly_wrong == whole.loss.newly_wrong
        for name in ("total", "square", "before", "uncertain"):
            expected = pytest.approx(getattr(whole.loss, name), rel=1e-9, abs=1e-12)
            assert getattr(parts.loss, name) == expected


def test_probes_are_counted_and_lose_nothing():
    grader = Grader(measure="probability")
    alone = Grader(measure="probability")
    for each in (0, 1):
        batches = in_batches(scores(each), [2]) + in_batches(scores(each + 7), [3], "ASR")
        graded = grader.grade(batches)
        assert graded.loss == alone.grade(in_batches(scores(each), [2])).loss
        right = (scores(each + 7).argmax(axis=1) == LABELS).sum()
        assert graded.probes == {"ASR": Tally(int(right), 6)}


def test_nothing_is_lost_where_nothing_is_measured():
    grader = Grader()
    assert grader.grade(in_batches(scores(0), [])).loss is None
    own = Grader(lambda scores, y: scores[:, 0])
    graded = own.grade(in_batches(scores(0), [3]))
    assert graded.clean.mean == pytest.approx(scores(0)[:, 0].mean(), rel=1e-12)
    assert graded.loss is None
    assert own.reading is None
    assert not own.follows_samples


def test_scores_are_read_as_was_stated():
    grader = Grader(outputs="logits", measure="probability")
    grader.grade([(None, np.array([0]), np.array([[0.75, 0.25]]))])
    assert grader.reading.outputs == "logits"
    assert grader.trained.probability.item() == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_rounding_moves_a_score_of_the_callers_too():
    own = Grader(lambda scores, y: scores[:, 0])
    batches = [(None, np.zeros(2, int), np.array([[8.0, 0.0], [4.0, 0.0]]))]
    assert own.grade(batches, window=0.25).clean == Tally(12, 2, 0.25 * 12)
    assert own.grade(batches).clean == Tally(12, 2)


def test_losses_are_counted_from_what_was_given_whatever_is_done_with_it_later():
    grader = Grader(measure="probability")
    first = margins(scores(0), LABELS, LOGITS, probability=True)
    assert grader.loss(first) is None
    grader.recognise([scores(0)], [LABELS])
    grader.start_anew()
    assert grader.loss(first).total == 0
    first.put(np.arange(6), margins(scores(1), LABELS, LOGITS, probability=True))
    lost = probability(scores(0)) - probability(scores(1))
    assert grader.loss(first).total == pytest.approx(lost.sum(), rel=1e-9)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_scores_are_read_alike_whatever_the_first_batch_shows(at):
    """Logits of one output, of which the first few could be probabilities."""
    logits, labels = np.array([0.2, 0.3, 0.9, -2.0]), np.array([1, 1, 1, 0])
    grader = Grader()
    batches = [(None, labels[:at], logits[:at]), (None, labels[at:], logits[at:])]
    assert grader.grade(batches).clean.total == 4
    assert grader.reading.outputs == "logits"


def test_a_probe_has_no_say_in_how_scores_are_read():
    grader = Grader()
    batches = [("ASR", np.array([1]), np.array([7.0])), (None, np.array([1]), np.array([0.9]))]
    grader.grade(batches)
    assert grader.reading.outputs == "probabilities"


def test_scores_that_change_their_shape_are_refused():
    batches = [(None, np.array([0]), np.ones((1, 3))), (None, np.array([0]), np.ones((1, 1)))]
    with pytest.raises(flain.DataError, match="one score per class"):
        Grader().grade(batches)
