"""What a batch of scores is worth."""

import numpy as np
import pytest

from flain_core.errors import DataError, ModelError
from flain_core.score import Margins, Scored, Tally, accuracy, margins, tally

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
