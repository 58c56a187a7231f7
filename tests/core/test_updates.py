"""Sizes of updates: norms, and which shares of an update were flipped."""

import numpy as np
import pytest

from flain_core.updates import greatest_by_output, norm, norm_by_neuron, shares_flipped


def shares_of(after, final, initial, factor, along=None):
    weights = (np.array(each, dtype=np.float32) for each in (initial, final, after))
    return shares_flipped(*weights, factor, along)


def test_the_share_by_hand():
    """Updates of 1 and 3, of which the first is flipped: 1 of 10 in squares."""
    final = [[2, 4]]
    assert shares_of([[0, 4]], final, [[1, 1]], 2.0) == (pytest.approx(0.1), None)
    # A reset takes the update itself, and half of a flip.
    assert shares_of([[1, 4]], final, [[1, 1]], 1.0) == (pytest.approx(0.1), None)
    assert shares_of([[1, 4]], final, [[1, 1]], 2.0) == (pytest.approx(0.025), None)


def test_the_share_along_what_was_flipped_most_by_hand():
    """Along the first output all of an update of 3 is flipped; mixed with the second, 3.6 of it."""
    after, initial = [[-3, 0], [0, 1]], np.zeros((2, 2))
    final = [[3, 0], [0, 1]]
    for along, expected in (([1.0, 0.0], 1.0), ([0.0, 1.0], 0.0), ([0.8, 0.6], 5.76 / 6.12)):
        found = shares_of(after, final, initial, 2.0, np.array(along))
        assert found == (pytest.approx(0.9), pytest.approx(expected))


def test_the_share_of_an_update_beyond_its_own_type_by_hand():
    """An update of 5e38 and one of 3e38, of which the latter is flipped: 9 of 34 in squares."""
    final = [[3e38, 1e38]]
    found = shares_of([[3e38, -2e38]], final, [[-2e38, -2e38]], 1.0)
    assert found == (pytest.approx(9 / 34), None)


@pytest.mark.parametrize("along", [None, np.linspace(-1, 1, 7)])
def test_the_shares_of_a_weight_in_many_blocks_are_those_of_the_whole(monkeypatch, along):
    initial, final, after = np.random.default_rng(0).normal(size=(3, 7, 6)).astype(np.float32)
    whole = shares_of(after, final, initial, 2.0, along)
    monkeypatch.setattr("flain_core.blocks._BLOCK_BYTES", 3 * 8 * 6)  # three rows
    assert shares_of(after, final, initial, 2.0, along) == pytest.approx(whole)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200, 1e308])
def test_a_norm_is_right_where_squares_leave_the_range(size):
    assert norm(np.full((3, 3), size / 3)) == pytest.approx(size)


def test_a_norm_is_that_of_numpy_to_the_last_digit_but_one():
    weight = np.random.default_rng(0).normal(size=(40, 30))
    assert norm(weight) == pytest.approx(np.linalg.norm(weight), rel=1e-15)


def test_norms_and_greatest_changes_by_hand():
    start, end = np.zeros((2, 2)), np.array([[3.0, 0.0], [4.0, -1.0]])
    np.testing.assert_allclose(norm_by_neuron(start, end, 1), [5.0, 1.0])
    np.testing.assert_allclose(greatest_by_output(start, end), [3.0, 4.0])
