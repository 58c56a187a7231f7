"""How clean samples use a layer's inputs."""

import numpy as np
import pytest
from direction_cases import (
    IN,
    directions,
    inputs,
)

import flain_core as flain
from flain_core.in_directions.input_space import InputSpace


def test_the_space_is_as_defined():
    x = inputs()
    with_bias, without = InputSpace.of(x, bias=True), InputSpace.of(x, bias=False)
    np.testing.assert_allclose(with_bias.variance, x.var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(without.variance, (x**2).mean(axis=0), rtol=1e-12)
    assert not without.mean.any()
    strengths = directions(x, space=with_bias).strengths / x.var(axis=0).mean()
    assert strengths[40] == pytest.approx(4e-4, rel=1e-12)
    assert strengths[0] < 1e-10
    np.testing.assert_allclose(strengths[1:] / strengths[:-1], 1.5, rtol=1e-12)
    assert 8 / 1.5 < strengths[-1] <= 8


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [4, 12, 60])
def test_the_shrinkage_is_that_of_the_sums_over_all_pairs(bias, count):
    x = inputs(count)
    centred = x - x.mean(axis=0) if bias else x
    variance_of_entries = squares = 0.0
    for i in range(IN):
        for j in range(IN):
            if i == j:
                continue
            products = centred[:, i] * centred[:, j]
            variance_of_entries += products.var() / count
            squares += products.mean() ** 2
    expected = min(max(variance_of_entries / squares, 0.0), 0.95)
    assert InputSpace.of(x, bias=bias).shrinkage == pytest.approx(expected, rel=1e-9)


def test_inputs_that_have_nothing_to_do_with_each_other_are_shrunk_as_far_as_may_be():
    one = np.array([[1.0], [-1.0]] * 4)
    two = np.array([[1.0], [1.0], [-1.0], [-1.0]] * 2)
    assert InputSpace.of(np.hstack([one, two]), bias=True).shrinkage == 0.95
    assert InputSpace.of(one[:1], bias=False).shrinkage == 0.95


def test_a_shrinkage_by_hand():
    """Two inputs, products 4, 1, 1, 0 of mean 1.5 and variance 2.25: 2.25 / 4 over 1.5**2."""
    x = np.array([[2.0, 2.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 1.0]])
    assert InputSpace.of(x, bias=False).shrinkage == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("bad", [np.ones((9, IN)), np.full((9, IN), 1e200) * np.eye(9, IN)])
def test_inputs_that_show_no_directions_are_refused(bad):
    with pytest.raises(flain.LayerError, match="same for all samples, or too large"):
        InputSpace.of(bad, bias=True)


def test_inputs_whose_fourth_powers_overflow_are_refused():
    with pytest.raises(flain.LayerError, match="too large"):
        InputSpace.of(inputs() * 1e90, bias=True)


def test_tokens_of_one_sample_count_as_one_in_the_shrinkage():
    once = inputs(40)
    twice = np.repeat(once[:, :, np.newaxis], 3, axis=2)
    one, three = InputSpace.of(once, bias=True), InputSpace.of(twice, bias=True)
    assert three.shrinkage == pytest.approx(one.shrinkage)
    assert three.variance == pytest.approx(one.variance)
    flattened = InputSpace.of(twice.swapaxes(1, 2).reshape(-1, IN), bias=True)
    assert flattened.shrinkage < 0.5 * one.shrinkage


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1.0, 1e-158])
def test_inputs_are_quiet_where_they_hardly_vary_and_are_idle_at_times(bias, size):
    """A trigger may push others either way."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, size=(500, 6)) * [1, 0.01, 0, 0.01, 0.01, 0.01]
    x[:, 3] -= 0.001
    x[:, 4] += 0.01
    x[:, 5] += 0.002
    space = InputSpace.of(size * x, bias=bias)
    np.testing.assert_array_equal(space.idle, [True, True, True, False, False, True])
    np.testing.assert_array_equal(space.quiet > 0, space.idle)
    assert space.quiet[2] == 1 > space.quiet[1] > 0.5 > 0.01 > space.quiet[0]
    if size == 1:
        variance = x.var(axis=0) if bias else np.square(x).mean(axis=0)
        half = variance.mean() / 1000
        np.testing.assert_allclose(space.quiet[space.idle], (half / (half + variance))[space.idle])
