"""Directions that speak for classes, and how strongly each is flipped."""

import numpy as np
import pytest
from direction_cases import whole_parts
from hypothesis import given
from hypothesis import strategies as st

from flain_core.in_directions.class_directions import (
    FURTHEST_BEHIND,
    QUIET_AT,
    class_directions,
)

OUT = 5


def space(classes=4, seed=0):
    """Classes in the order of their excess, and what is flipped of each."""
    toward = np.random.default_rng(seed).normal(size=(classes, OUT))
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    return toward, class_directions(toward, np.linspace(1.2 * classes, 1.2, classes))


def strength_at(found, number, direction):
    """How strongly a direction is flipped, as the number of a candidate that flips all alike."""
    return sum(level * (direction @ part @ direction) for level, part in whole_parts(found, number))


def test_two_classes_are_flipped_more_strongly_than_all_others():
    found = class_directions(np.eye(5), np.array([2, 7, 3, 5.8, 4]))
    for direction, behind in zip(np.eye(5), [12, 0, 12, 6, 12], strict=True):
        assert strength_at(found, 60, direction) == pytest.approx(60 - behind)


def test_what_classes_have_in_common_is_flipped_as_strongly_as_the_first_wants_it():
    toward, found = space()
    assert strength_at(found, 63, toward[0]) == pytest.approx(63)
    assert 63 > strength_at(found, 63, toward[1]) > 57
    own = toward[1] - (toward[1] @ toward[0]) * toward[0]
    assert strength_at(found, 63, own / np.linalg.norm(own)) == pytest.approx(57)


@given(st.integers(1, 90), st.integers(1, 8), st.integers(0, 5))
def test_the_parts_of_a_candidate_make_it_whole(number, classes, seed):
    levels, parts = zip(*whole_parts(space(classes, seed)[1], number), strict=True)
    np.testing.assert_allclose(sum(parts), np.eye(OUT), rtol=0, atol=1e-9)
    assert all((level - QUIET_AT) % 6 == 0 for level in levels)
    assert max(levels) < number + 6
    assert min(levels) > number - FURTHEST_BEHIND - 6


@pytest.mark.parametrize("number", [57, 58, 63])
def test_what_speaks_for_no_class_is_flipped_most_weakly(number):
    toward, found = space(2)
    _, _, basis = np.linalg.svd(toward)
    for output in basis[2:]:  # at right angles to both classes
        assert strength_at(found, number, output) == pytest.approx(number - FURTHEST_BEHIND)


def test_classes_that_oppose_each_other_are_one_direction():
    """As the two of a model with a single score are."""
    output = np.full(OUT, OUT**-0.5)
    found = class_directions(np.array([output, -output]), np.array([0.4, 0.4]))
    assert len(found[0]) == len(found[1]) == 1
    assert strength_at(found, 60, output) == pytest.approx(60)


@pytest.mark.parametrize("near", [1e-12, 1e-6, 1e-3])
def test_classes_that_are_nearly_alike_are_flipped_no_more_than_once(near):
    toward = np.array([np.eye(OUT)[0], np.eye(OUT)[0] + near * np.eye(OUT)[1]])
    found = class_directions(toward, np.array([0.4, 0.3]))
    assert len(found[0]) == len(found[1]) == 1
    assert all(np.linalg.norm(part, 2) < 1 + 1e-9 for _, part in whole_parts(found, 60))


@pytest.mark.parametrize("near", [0.0, 1e-3])
@pytest.mark.parametrize("sign", [1, -1])
def test_where_the_second_class_is_like_the_first_all_else_is_flipped_weakly(near, sign):
    first, second, third = np.eye(OUT)[:3]
    toward = np.array([first, sign * first + near * second, third])
    found = class_directions(toward, np.array([0.9, 0.8, 0.7]))
    for direction, behind in ((first, 0), (second, 12), (third, 12)):
        assert strength_at(found, 63, direction) == pytest.approx(63 - behind)


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_directions_have_length_1_whatever_those_of_classes_have(size):
    found, _ = class_directions(size * np.eye(3), np.array([0.5, 0.4, 0.3]))
    np.testing.assert_allclose(found, np.eye(3)[:2])


def test_more_classes_than_outputs_are_no_trouble():
    toward, found = space(OUT + 3)
    np.testing.assert_allclose(found[0] @ found[0].T, np.eye(2), atol=1e-12)
    assert strength_at(found, 60, toward[0]) == pytest.approx(60)
    *_, other = np.linalg.svd(found[0])[2]  # at right angles to both
    assert strength_at(found, 60, other) == pytest.approx(60 - FURTHEST_BEHIND)


def test_classes_of_equal_excess_are_taken_in_their_order():
    standing = np.array([0.2] * 10 + [0.5] * 20)
    found, behind = class_directions(np.eye(30), standing)
    np.testing.assert_array_equal(found, np.eye(30)[10:12])
    np.testing.assert_array_equal(behind, [0, 0])


@pytest.mark.parametrize(
    ("lead", "behind"), [(0, 0), (0.5, 2.5), (1, 5), (2, 10), (2.4, 12), (7, 12)]
)
def test_the_less_the_second_class_stands_behind_the_more_strongly_it_is_flipped(lead, behind):
    found = class_directions(np.eye(3), np.array([-9.0, 2.0 - lead, 2.0]))
    for direction, weaker in zip(np.eye(3), [12, behind, 0], strict=True):
        assert strength_at(found, 60, direction) == pytest.approx(60 - weaker)


def test_next_to_a_tie_it_hardly_matters_which_class_comes_first():
    one, other = (
        class_directions(space()[0], np.array([2.0, 2.0 + lead, 0, 0])) for lead in (-1e-6, 1e-6)
    )
    for direction in np.eye(OUT):
        assert strength_at(one, 60, direction) == pytest.approx(
            strength_at(other, 60, direction), abs=1e-3
        )
