"""What a batch of scores is worth."""

import numpy as np
import pytest

from flain_core.errors import DataError, ModelError
from flain_core.outputs import Reading
from flain_core.score import Margins, accuracy, margins, tally
from flain_core.tallies import Loss, Scored, Tally

SCORES = np.array([[1, 1, 0], [1, 1, 0], [0, 3, 3], [0, 3, 3], [2, 0, -4]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 2, 0])


def test_of_equal_scores_the_first_is_the_greatest():
    seen = margins(SCORES, LABELS)
    np.testing.assert_array_equal(seen.right, [True, False, True, False, True])
    np.testing.assert_array_equal(seen.right, accuracy(SCORES, LABELS))
    np.testing.assert_array_equal(seen.margin, [0, 0, 0, 0, 2])
    np.testing.assert_array_equal(seen.magnitude, [1, 1, 3, 3, 4])


def test_samples_within_the_window_of_a_tie_are_uncertain():
    assert tally(accuracy, SCORES, LABELS).total == 3
    assert tally(accuracy, SCORES, LABELS, window=0.4).uncertain == 4
    assert tally(accuracy, SCORES, LABELS, window=0.5).uncertain == 5


def test_margins_of_parts_are_those_of_all():
    whole = margins(SCORES, LABELS)
    joined = Margins.joined([margins(SCORES[i], LABELS[i]) for i in np.split(np.arange(5), [2, 3])])
    assert joined.tally(0.5) == whole.tally(0.5)
    joined.put(np.array([1, 4]), margins(SCORES[[0, 0]], LABELS[[0, 1]]))
    np.testing.assert_array_equal(joined.right, [True, True, True, False, False])
    assert joined[1:].tally(0.0).total == 2


def test_tallies_of_a_model_add_up():
    scored = Scored(Tally(3, 4) + Tally(5, 6, 1), {"ASR": Tally(1, 2) + Tally(2, 2)})
    assert scored.clean == Tally(8, 10, 1)
    assert scored.probe_means() == {"ASR": 0.75}


@pytest.mark.parametrize("scores", [[[0.1, 0.9]], np.array(0.5), np.array([[1, 2]])])
def test_a_network_has_to_score_with_an_array_of_floats(scores):
    with pytest.raises(ModelError, match="floating-point numbers"):
        tally(accuracy, scores, np.array([0]))


@pytest.mark.parametrize("shape", [(2,), (2, 1), (3, 4)])
def test_accuracy_needs_a_score_for_each_class(shape):
    with pytest.raises(DataError, match="one score per class"):
        tally(accuracy, np.zeros(shape), np.array([0, 1]))


def test_scores_have_to_be_numbers():
    with pytest.raises(DataError, match="NaN or infinity"):
        margins(np.where(SCORES == -4, np.nan, SCORES), LABELS)


LOGITS = Reading("logits", single=False, stated=True)


def test_losses_add_up():
    added = Loss(1, 2, 3, 4, 5, 6) + Loss(10, 20, 30, 40, 50, 60)
    assert added == Loss(11, 22, 33, 44, 55, 66)


def test_what_was_run_in_full_is_beyond_doubt_and_else_the_same():
    scored = Scored(Tally(3, 4, 2), {"ASR": Tally(1, 2, 1)}, Loss(1, 2, 3, 4, 5, 6))
    exact = Scored(Tally(3, 4), {"ASR": Tally(1, 2, 1)}, Loss(1, 2, 3, 4, 5, 0))
    assert scored.as_exact() == exact
    assert Scored(Tally(3, 4, 2)).as_exact() == Scored(Tally(3, 4))


def test_what_samples_lost_by_hand():
    """Odds of 1, 3 and 9 to one are probabilities of 1/2, 3/4 and 9/10."""
    labels = np.zeros(3, int)
    scores = [np.log([[odds, 1.0] for odds in some]) for some in ((3, 3, 9), (1, 1 / 3, 9))]
    trained, now = (margins(each, labels, LOGITS, probability=True) for each in scores)
    loss = now.loss_since(trained, LOGITS, 0.0)
    assert (loss.total, loss.square) == (pytest.approx(0.75), pytest.approx(0.3125))
    assert loss.before == pytest.approx(2.4)
    assert (loss.newly_wrong, loss.count, loss.uncertain) == (1, 3, 0)
    # What rounding moves is relative to the greatest score of all, log 9.
    uncertain = now.loss_since(trained, LOGITS, 1e-3).uncertain
    expected = LOGITS.uncertainty(np.array([0.5, 0.25, 0.9]), 1e-3 * np.log(9))
    assert uncertain == pytest.approx(expected)


def test_probabilities_are_kept_joined_and_replaced_with_the_margins():
    several = [
        margins(SCORES[i], LABELS[i], LOGITS, probability=True) for i in (slice(3), slice(3, 5))
    ]
    joined = Margins.joined(several)
    whole = margins(SCORES, LABELS, LOGITS, probability=True)
    for column in ("right", "margin", "magnitude", "probability"):
        np.testing.assert_array_equal(getattr(joined, column), getattr(whole, column))
    assert Margins.joined([whole]) is whole
    joined.put(np.array([4, 0]), whole[:2])
    for column in ("right", "margin", "magnitude", "probability"):
        expected = getattr(whole, column)[[1, 1, 2, 3, 0]]
        np.testing.assert_array_equal(getattr(joined, column), expected)
    assert not margins(SCORES, LABELS, LOGITS).probability.size


def test_a_score_of_the_callers_moves_with_rounding_and_jumps_near_ties():
    scores, labels = np.array([[0.0, 4.0], [1.0, 1.5], [-4.0, -2.0]]), np.zeros(3, int)

    def worth(scores, y):
        return np.array([-1, 2, 4], dtype=np.float32)

    assert tally(worth, scores, labels) == Tally(5, 3)
    # A window of 1/8 of the greatest magnitude is 1/2: one near tie, a jump of 5; and 7/8 of drift.
    assert tally(worth, scores, labels, window=0.125) == Tally(5, 3, 5 + 7 / 8)
    assert tally(worth, scores, labels, window=0.1) == Tally(5, 3, pytest.approx(0.7))
    # Without classes nothing is near a tie.
    assert tally(worth, scores[:, :1], labels, window=0.125) == Tally(5, 3, 7 / 8)
    assert tally(worth, scores[:, 0], labels, window=0.125) == Tally(5, 3, 7 / 8)


def test_ties_at_any_place_of_a_sample_make_it_uncertain_once():
    scores = np.zeros((2, 3, 2))
    scores[0, :, 1] = [9, 1, 9]
    scores[1] = [[0, 1], [0, 1], [9, 0]]

    def right(scores, y):
        return np.array([True, False])

    # Bool: nothing drifts. Both samples have places within 1 of a tie.
    assert tally(right, scores, np.zeros(2, int), window=1 / 9) == Tally(1, 2, 2)
    assert tally(right, scores, np.zeros(2, int), window=1 / 10) == Tally(1, 2, 0)
    # One place is enough; one class is near no other.
    assert tally(right, scores[:, :1], np.zeros(2, int), window=1 / 9) == Tally(1, 2, 1)
    assert tally(right, scores[..., :1], np.zeros(2, int), window=1) == Tally(1, 2, 0)


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((3, 1)), np.zeros(3, complex), "abc"])
def test_a_score_of_the_callers_gives_one_number_for_each_sample(bad):
    with pytest.raises(DataError, match="one real number for each of the 3 samples"):
        tally(lambda scores, y: bad, np.zeros((3, 2)), np.zeros(3, int))


def test_whole_numbers_of_the_callers_are_summed_as_numbers():
    for kind in (np.int8, np.uint8, np.float16):
        many = np.full(3, 100, kind)
        assert tally(lambda scores, y, many=many: many, np.eye(3), np.zeros(3, int)).total == 300


@pytest.mark.parametrize("most", [np.int8(-128), np.float16(40_000)])
def test_worths_whose_sum_or_magnitude_their_type_cannot_hold_are_summed(most):
    total = 3 * float(most)
    summed = tally(lambda scores, y: np.full(3, most), np.ones((3, 1)), np.zeros(3, int), 1 / 8)
    assert summed == Tally(total, 3, abs(total) / 8)
