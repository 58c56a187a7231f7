"""Flipping in directions, against plain dense algebra."""

from dataclasses import replace

import numpy as np
import pytest
from direction_cases import (
    COUNT,
    IN,
    OUT,
    arrays,
    at_strength,
    covariance,
    directions,
    inputs,
)
from hypothesis import given
from hypothesis import strategies as st

import flain_core as flain
from flain_core import blocks
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_core.schedule import Schedule
from flain_numpy import Dense, Network


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("factor", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("count", [2, 5, 25, 200])
def test_the_weight_is_that_of_the_formula(bias, factor, count):
    x = inputs(count)
    found = directions(x, bias=bias, factor=factor)
    final, offset = arrays(found.network)
    update = final - found.initial
    for number in (41, 47, len(found.strengths)):
        strength = found.space.strength(number)
        inverse = np.linalg.inv(covariance(found.space, x) + strength * np.eye(IN))
        expected = final - factor * strength * update @ inverse
        weight, moved = arrays(found.candidate(number))
        np.testing.assert_allclose(weight, expected, rtol=0, atol=1e-9)
        if bias:
            before, after = x.mean(0) @ final.T + offset, x.mean(0) @ weight.T + moved
            np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)
        else:
            assert moved is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("number", [41, 48, 60])
def test_what_is_taken_is_what_the_weight_takes(bias, number):
    x = inputs()
    found = directions(x, bias=bias)
    final, purified = found.network.predict(x), found.candidate(number).predict(x)
    np.testing.assert_allclose(found.taken(number), final - purified, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
@pytest.mark.parametrize(("count", "number"), [(COUNT, 41), (COUNT, 48), (COUNT, 60), (5, 60)])
def test_a_sample_is_left_out_as_if_refitted_without_it(bias, shrinkage, count, number):
    """The same ridge problem, solved again and again without one of the samples.

    min ||X w - X update||^2 (1 - shrinkage) / n + w' (shrinkage diag + s I) w - 2 s update' w, with
    a constant column that bears no penalty where there is a bias, solved for the weight that is
    taken. The penalty and the divisor are those of all samples, more than the inputs or fewer.
    """
    x = inputs(count)
    whole = InputSpace.of(x, bias=bias)
    space = replace(whole, shrinkage=shrinkage)
    found = directions(x, bias=bias, space=space)
    strength = space.strength(number)
    update = found.layer.weight - found.initial
    taken = found.taken(number, unseen=True)
    penalty = shrinkage * np.diag(space.variance) + strength * np.eye(IN)
    rows = np.column_stack([x - space.mean, np.ones(count)]) if bias else x
    full = np.zeros((rows.shape[1],) * 2)
    full[:IN, :IN] = penalty
    pull = np.zeros((rows.shape[1], OUT))
    pull[:IN] = found.factor * strength * update.T
    for left_out in range(count):
        others = np.delete(rows, left_out, axis=0)
        normal = (1 - shrinkage) / count * others.T @ others + full
        refitted = np.linalg.solve(normal, pull)
        np.testing.assert_allclose(taken[left_out], rows[left_out] @ refitted, rtol=0, atol=1e-8)


def test_a_sample_far_from_the_others_is_judged_by_them():
    x = inputs()
    x[0] = 50.0
    found = directions(x)
    unseen, taken = np.abs(found.taken(43, unseen=True)), np.abs(found.taken(43))
    assert unseen[0].max() > 1.5 * taken[0].max()
    assert (unseen >= taken * (1 - 1e-9)).all()


@pytest.mark.parametrize("factor", [2.0, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_an_input_that_never_varies_is_flipped_wholly(factor, bias):
    x = inputs()
    x[:, [1, 4]] = 3.0 if bias else 0.0
    found = directions(x, bias=bias, factor=factor)
    assert found.space.active.tolist() == [0, 2, 3, 5, 6]
    final, _ = arrays(found.network)
    flipped = final - factor * (final - found.initial)
    for number in (41, 60):
        weight, _ = arrays(found.candidate(number))
        np.testing.assert_allclose(weight[:, [1, 4]], flipped[:, [1, 4]], rtol=0, atol=1e-12)
        assert np.abs(weight[:, 0] - flipped[:, 0]).max() > 1e-3


def test_what_never_varied_still_keeps_the_mean_pre_activation():
    x = inputs()
    x[:, 2] = 5.0
    found = directions(x)
    after = found.candidate(9).predict(x).mean(axis=0)
    np.testing.assert_allclose(after, found.network.predict(x).mean(axis=0), rtol=0, atol=1e-9)


@given(st.integers(0, 20), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]))
def test_no_strength_changes_nothing_and_a_great_one_flips_all(seed, bias, factor):
    x = inputs(seed=seed)
    found = directions(x, bias=bias, factor=factor, seed=seed + 1)
    final, _ = arrays(found.network)
    flipped = final - factor * (final - found.initial)
    scale = float(found.space.variance.mean())
    weak, _ = arrays(at_strength(found, 1e-9 * scale).candidate(1))
    strong, _ = arrays(at_strength(found, 1e9 * scale).candidate(1))
    np.testing.assert_allclose(weak, final, rtol=0, atol=1e-3)
    np.testing.assert_allclose(strong, flipped, rtol=0, atol=1e-6)


@given(st.integers(0, 20))
def test_more_is_flipped_with_each_strength(seed):
    found = directions(inputs(seed=seed), seed=seed)
    final, _ = arrays(found.network)
    change = [np.linalg.norm(final - arrays(found.candidate(i))[0]) for i in range(25)]
    assert change[0] == 0
    assert (np.diff(change) > 0).all()
    assert change[-1] < np.linalg.norm(2 * (final - found.initial))


def test_number_0_is_the_model_itself():
    found = directions(inputs())
    weight, bias = arrays(found.candidate(0))
    np.testing.assert_array_equal(weight, arrays(found.network)[0])
    np.testing.assert_array_equal(bias, arrays(found.network)[1])


def test_a_weight_beyond_its_type_is_refused():
    network = Network([Dense("only", np.full((2, 2), -3e38, np.float32))])
    initial = np.full((2, 2), 3e38, np.float32)
    space = InputSpace.of(inputs()[:, :2], bias=False)
    found = Directions(network, network.layers()["only"], initial, 2.0, space)
    with pytest.raises(
        flain.WeightsError, match=r"^the purified layer leaves the range of float32"
    ):
        found.candidate(60)


def test_neurons_at_most_as_varied_as_the_strength_are_flipped_by_half_or_more():
    x = inputs(200)
    x[:, 3] *= 1e-3
    found = directions(x, bias=True)
    strengths = Schedule.of_strengths(found.space.variance, found.strengths)
    covered = set()
    for number in range(1, len(strengths) + 1):
        strength = found.space.strength(number)
        inverse = np.linalg.inv(covariance(found.space, x) + strength * np.eye(IN))
        flipped = strengths.flipped(number)
        assert (strength * np.diag(inverse)[flipped] >= 0.5 - 1e-12).all()
        np.testing.assert_array_equal(flipped, found.space.variance <= strength)
        assert strengths.neurons(number) == flipped.sum()
        covered.add(int(flipped.sum()))
    assert not strengths.flipped(0).any()
    assert {1, IN} <= covered


def test_a_large_weight_is_flipped_like_a_small_one(monkeypatch):
    small, large = (directions(inputs(), dtype=np.float32) for _ in range(2))
    kept = small.taken(45), small.change(45)
    monkeypatch.setattr(blocks, "_SMALL_BYTES", 0)
    np.testing.assert_array_equal(large.taken(45), kept[0])
    np.testing.assert_array_equal(large.change(45), kept[1])


@pytest.mark.parametrize("positions", [1, 2])
def test_a_sample_that_nothing_else_tells_about_is_judged_by_a_thousand_times_what_is_taken(
    positions,
):
    """It alone decides what is taken from it, so that a fit without it says next to nothing."""
    x = inputs(4).reshape(2, 2, IN).swapaxes(1, 2) if positions == 2 else inputs(4)
    space = replace(InputSpace.of(x, bias=False), shrinkage=0.0)
    found = at_strength(directions(x, bias=False, space=space), 1e-7)
    expected = 1000 * found.taken(1)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found.taken(1, unseen=True), expected, rtol=0, atol=1e-3 * largest)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [3, 30])
def test_a_sample_of_several_tokens_is_left_out_with_all_of_them(count, bias):
    """Once with fewer rows than inputs, and once with more."""
    tokens = inputs(count * 2).reshape(count, 2, IN).swapaxes(1, 2)
    space = InputSpace.of(tokens, bias=bias)
    assert space.positions == 2
    assert space.centred.shape == (count * 2, IN)
    found = at_strength(directions(tokens, bias=bias, space=space), 0.3)
    taken, unseen = found.taken(1), found.taken(1, unseen=True)
    rows = tokens.swapaxes(1, 2).reshape(-1, IN)
    weight, offset = arrays(found.candidate(1))
    before, start = arrays(found.network)
    moved = rows @ (before - weight).T + ((start - offset) if bias else 0)
    assert taken == pytest.approx(moved, abs=1e-8)
    # Refitted without the sample: the same penalty, which counts less as there are fewer rows.
    centred = rows - space.mean
    diagonal = np.diag(space.shrinkage * space.variance + 0.3)
    for sample in range(count):
        left = np.delete(np.arange(count * 2), [2 * sample, 2 * sample + 1])
        kept = (1 - space.shrinkage) / (count * 2) * centred[left].T @ centred[left]
        if bias:
            # Leaving a sample out moves the mean as well.
            kept = _with_mean(rows[left], count * 2, space)
        solved = found.factor * 0.3 * (before - found.initial) @ np.linalg.inv(kept + diagonal)
        own = rows[2 * sample : 2 * sample + 2] - (rows[left].mean(axis=0) if bias else 0)
        expected = own @ solved.T
        assert unseen[2 * sample : 2 * sample + 2] == pytest.approx(expected, rel=0.01, abs=0.02)


def _with_mean(rows, count, space):
    centred = rows - rows.mean(axis=0)
    return (1 - space.shrinkage) / count * centred.T @ centred
