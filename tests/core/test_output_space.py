"""Output directions of an update, against plain algebra."""

from dataclasses import replace

import numpy as np
import pytest

from flain_core.input_space import RATIO
from flain_core.output_space import OutputSpace

OUT, IN = 5, 12


def update_and_quiet(seed=0, outputs=OUT):
    """An update, and its part in the last inputs."""
    rng = np.random.default_rng(seed)
    update = rng.normal(size=(outputs, IN))
    return update, update * (np.arange(IN) >= IN // 2)


def space_of(update, quiet):
    return OutputSpace.of(update @ update.T, quiet @ update.T)


def shares(update, quiet, direction):
    return (direction @ quiet @ update.T @ direction) / (direction @ update @ update.T @ direction)


def test_the_directions_make_the_update_again_and_have_nothing_in_common():
    update, quiet = update_and_quiet()
    space = space_of(update, quiet)
    np.testing.assert_allclose(space.back @ space.into, np.eye(OUT), rtol=0, atol=1e-10)
    found = space.into @ update
    for product in (found @ found.T, space.into @ quiet @ found.T):
        off_diagonal = product - np.diag(np.diag(product))
        assert np.abs(off_diagonal).max() < 0.01 * np.diag(product).max()


def test_the_strongest_is_of_the_direction_with_the_greatest_share():
    """No other output direction has a greater one, by a search over many."""
    update, quiet = update_and_quiet(3)
    space = space_of(update, quiet)
    found = [shares(update, quiet, direction) for direction in space.into]
    at_most = max(
        shares(update, quiet, direction)
        for direction in np.random.default_rng(1).normal(size=(20_000, OUT))
    )
    assert max(found) >= at_most - 1e-3
    assert space.behind[int(np.argmax(found))] == 0.0
    assert (np.diff(space.behind[np.argsort(found)]) <= 0).all()


def test_a_pattern_of_outputs_at_quiet_inputs_comes_first():
    """What a backdoor adds: one pattern of outputs, where clean data says nothing."""
    rng = np.random.default_rng(5)
    pattern, trigger = rng.normal(size=OUT), np.zeros(IN)
    trigger[-3:] = 4.0
    benign = rng.normal(size=(OUT, IN)) * (np.arange(IN) < IN - 3)
    update = benign + np.outer(pattern, trigger)
    space = space_of(update, update * (np.arange(IN) >= IN - 3))
    first = space.back[:, space.behind.argmin()]
    cosine = abs(first @ pattern) / np.linalg.norm(first) / np.linalg.norm(pattern)
    assert cosine > 0.99
    assert (space.behind == 12.0).sum() == OUT - 1


@pytest.mark.parametrize("number", [1, 4, 50, 57, 65])
def test_the_parts_of_a_candidate_make_it_whole(number):
    space = space_of(*update_and_quiet())
    levels, parts = zip(*space.parts(number), strict=True)
    np.testing.assert_allclose(sum(parts), np.ones(OUT), rtol=0, atol=1e-10)
    assert all((level - 57) % 6 == 0 for level in levels)
    assert max(levels) < number + 6
    assert min(levels) > number - 12 - 6


def test_a_direction_lies_between_the_two_strengths_next_to_its_own():
    space = OutputSpace(np.eye(2), np.eye(2), 0.5, np.array([1.0, 1 / RATIO]))
    np.testing.assert_allclose(space.behind, [0, 4])
    parts = dict(space.parts(57))
    assert parts.keys() == {51, 57}
    np.testing.assert_allclose(parts[57], [1, 1 / 3])
    np.testing.assert_allclose(parts[51], [0, 2 / 3])


def test_an_update_that_is_quiet_everywhere_alike_is_flipped_alike():
    update, _ = update_and_quiet()
    space = space_of(update, 0.5 * update)
    np.testing.assert_allclose(space.behind, 0.0, atol=0.1)


def test_the_directions_are_of_one_size_and_have_the_shares_of_the_update():
    update, quiet = update_and_quiet()
    space = space_of(update, quiet)
    found = space.into @ update
    np.testing.assert_allclose(np.square(found).sum(axis=1), 1.0, rtol=0, atol=0.02)
    expected = [shares(update, quiet, direction) for direction in space.into]
    np.testing.assert_allclose(space.greatest * space.shares, expected, rtol=0, atol=0.02)


def part_of(space, shares, number, level):
    """A part as a matrix, for a matrix of shares that is not diagonal."""
    values, turned = np.linalg.eigh(shares)
    weights = dict(replace(space, shares=values).parts(number)).get(level, np.zeros(len(values)))
    return (turned * weights) @ turned.T


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize(("number", "level"), [(57, 57), (57, 51), (60, 51), (54, 45)])
def test_slopes_say_how_a_part_moves_with_the_matrix_of_shares(number, level, alike):
    values = np.array([0.53, 0.53, 0.78, 0.98, 1.0] if alike else [0.53, 0.67, 0.78, 0.9, 1.0])
    space = OutputSpace(np.eye(OUT), np.eye(OUT), 0.77, values)
    used = np.random.default_rng(2).normal(size=OUT)
    used[-1] = 0.0  # The greatest share is the unit of all.
    more = 1e-5 * np.outer(used, used)
    moved = part_of(space, np.diag(values) + more, number, level)
    moved -= part_of(space, np.diag(values), number, level)
    expected = more * space.slopes(number, level)
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(expected, moved, rtol=0, atol=0.01 * np.abs(moved).max())


@pytest.mark.parametrize("number", [51, 54, 57, 60])
def test_what_one_part_loses_another_gains(number):
    space = space_of(*update_and_quiet())
    slopes = sum(space.slopes(number, level) for level, _ in space.parts(number))
    # The greatest share is the unit of all, so it never moves.
    slopes[-1, -1] = 0.0
    np.testing.assert_allclose(slopes, 0.0, atol=1e-9)


@pytest.mark.parametrize("update", [np.ones((OUT, IN)), np.ones((IN + 3, 2))])
def test_an_update_of_low_rank_has_directions_too(update):
    space = space_of(update, update)
    np.testing.assert_allclose(space.back @ space.into @ update, update, rtol=0, atol=1e-10)
    assert ((space.behind >= 0) & (space.behind <= 12)).all()


def test_the_size_that_an_update_was_divided_by_is_in_the_directions():
    update, quiet = update_and_quiet()
    whole, part = update @ update.T, quiet @ update.T
    plain, divided = OutputSpace.of(whole, part), OutputSpace.of(whole / 16, part / 16, 4.0)
    for name in ("into", "back", "greatest", "shares"):
        np.testing.assert_allclose(getattr(divided, name), getattr(plain, name), rtol=1e-12)


def test_nothing_is_more_than_twelve_candidates_behind():
    space = space_of(np.eye(2), np.diag([1.0, RATIO**-3.1]))
    assert sorted(space.behind) == [0.0, 12.0]
