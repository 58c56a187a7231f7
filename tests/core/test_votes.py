"""What quiet inputs vote for."""

import numpy as np
import pytest

from flain_core.in_directions.votes import standing_by_votes, votes_of, weights_of


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
    np.testing.assert_allclose(votes_of(said, weights_of(said, quiet)), expected)


def test_where_no_input_is_quiet_nobody_votes():
    votes, weights = votes_of(np.ones((3, 4)), np.zeros(4)), np.zeros(4)
    np.testing.assert_array_equal(votes, np.zeros(3))
    np.testing.assert_array_equal(standing_by_votes(votes, weights), np.zeros(3))


def test_a_class_that_the_update_does_not_speak_for_gets_no_vote():
    said = np.array([[5.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    weights = weights_of(said, np.ones(2))
    np.testing.assert_allclose(votes_of(said, weights), [2 * 26**0.5, 0, 0, 4])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_votes_count_for_little_where_few_inputs_have_most_of_the_weight(scale):
    votes, whole = np.array([4.0, 1.0, 0.0]), np.array([1.37281295, -0.39223227, -0.98058068])
    for weights, count in (
        (np.ones(1000), 1000),
        (np.repeat([1.0, 0.0], [16, 1000]), 16),  # half
        (np.repeat([1.0, 1e-3], [4, 1000]), (4 + 1) ** 2 / (4 + 1e-3)),
        (np.ones(1), 1),
    ):
        found = standing_by_votes(scale * votes, scale * weights)
        np.testing.assert_allclose(found, whole / (1 + (16 / count) ** 4))
