"""Output directions of an update, against plain algebra."""

import numpy as np
import pytest

from flain_core.errors import LayerError
from flain_core.input_space import RATIO
from flain_core.output_space import OutputSpace

OUT, IN = 5, 12


def update_and_quiet(seed=0, outputs=OUT):
    """An update, and its part in the last inputs."""
    rng = np.random.default_rng(seed)
    update = rng.normal(size=(outputs, IN))
    return update, update * (np.arange(IN) >= IN // 2)


def shares(update, quiet, direction):
    return (direction @ quiet @ update.T @ direction) / (direction @ update @ update.T @ direction)


def test_the_directions_make_the_update_again_and_have_nothing_in_common():
    update, quiet = update_and_quiet()
    space = OutputSpace.of(update, quiet)
    np.testing.assert_allclose(space.back @ space.into, np.eye(OUT), rtol=0, atol=1e-10)
    found = space.into @ update
    for product in (found @ found.T, space.into @ quiet @ found.T):
        off_diagonal = product - np.diag(np.diag(product))
        assert np.abs(off_diagonal).max() < 0.01 * np.diag(product).max()


def test_the_strongest_is_of_the_direction_with_the_greatest_share():
    """No other output direction has a greater one, by a search over many."""
    update, quiet = update_and_quiet(3)
    space = OutputSpace.of(update, quiet)
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
    space = OutputSpace.of(update, update * (np.arange(IN) >= IN - 3))
    first = space.back[:, space.behind.argmin()]
    cosine = abs(first @ pattern) / np.linalg.norm(first) / np.linalg.norm(pattern)
    assert cosine > 0.99
    assert (space.behind == 12.0).sum() == OUT - 1


@pytest.mark.parametrize("number", [1, 4, 50, 57, 65])
def test_the_parts_of_a_candidate_make_it_whole(number):
    space = OutputSpace.of(*update_and_quiet())
    levels, parts = zip(*space.parts(number), strict=True)
    np.testing.assert_allclose(sum(parts), np.eye(OUT), rtol=0, atol=1e-10)
    assert all((level - 57) % 6 == 0 for level in levels)
    assert max(levels) < number + 6
    assert min(levels) > number - 12 - 6


def test_a_direction_lies_between_the_two_strengths_next_to_its_own():
    space = OutputSpace(np.eye(2), np.eye(2), np.array([0.0, 4.0]))
    parts = {level: np.diag(part) for level, part in space.parts(57)}
    assert parts.keys() == {51, 57}
    np.testing.assert_allclose(parts[57], [1, 1 / 3])
    np.testing.assert_allclose(parts[51], [0, 2 / 3])


def test_an_update_that_is_quiet_everywhere_alike_is_flipped_alike():
    update, _ = update_and_quiet()
    space = OutputSpace.of(update, 0.5 * update)
    np.testing.assert_allclose(space.behind, 0.0, atol=0.1)


@pytest.mark.parametrize("update", [np.zeros((OUT, IN)), np.ones((IN + 3, 2))])
def test_an_update_of_low_rank_has_directions_too(update):
    space = OutputSpace.of(update, update)
    np.testing.assert_allclose(space.back @ space.into @ update, update, rtol=0, atol=1e-10)
    assert ((space.behind >= 0) & (space.behind <= 12)).all()


def test_the_scale_of_an_update_changes_nothing():
    update, quiet = update_and_quiet()
    for scale in (1e-150, 1e-120, 1e120):
        scaled = OutputSpace.of(update * scale, quiet * scale)
        np.testing.assert_allclose(scaled.behind, OutputSpace.of(update, quiet).behind, atol=1e-6)


def test_what_cannot_be_squared_is_refused():
    with pytest.raises(LayerError, match="too large to be squared"):
        OutputSpace.of(np.full((2, 2), 1e200), np.full((2, 2), 1e200))


def test_nothing_is_more_than_twelve_candidates_behind():
    space = OutputSpace.of(np.eye(2), np.diag([1.0, RATIO**-3.1]))
    assert sorted(space.behind) == [0.0, 12.0]
