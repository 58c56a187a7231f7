"""What quiet inputs vote for."""

import numpy as np
import pytest

from flain_core.in_directions.votes import votes_of


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 12])
def test_each_quiet_input_gives_its_first_choice_two_votes_and_the_next_two_one(classes):
    """Written out for each input."""
    rng = np.random.default_rng(classes)
    said, quiet = rng.normal(size=(classes, 30)), rng.uniform(size=30)
    expected = np.zeros(classes)
    for each, how_quiet in zip(said.T, quiet, strict=True):
        size = how_quiet * np.sqrt(np.square(each).sum())
        for votes, chosen in zip((2, 1, 1), np.argsort(each)[::-1], strict=False):
            expected[chosen] += votes * size * (each[chosen] > 0)
    np.testing.assert_allclose(votes_of(said, quiet), expected)


def test_where_no_input_is_quiet_nobody_votes():
    np.testing.assert_array_equal(votes_of(np.ones((3, 4)), np.zeros(4)), np.zeros(3))


def test_a_class_that_the_update_does_not_speak_for_gets_no_vote():
    said = np.array([[5.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(votes_of(said, np.ones(2)), [2 * 26**0.5, 0, 0, 4])
