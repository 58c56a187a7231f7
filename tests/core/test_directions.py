"""Flipping in directions, against plain dense algebra."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from direction_cases import (
    COUNT,
    IN,
    OUT,
    TOWARD,
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
from flain_core.in_directions import fits
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_core.in_directions.ridge import Ridge, inverse_of_lower
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


@pytest.mark.parametrize("size", [1, 47, 48, 96, 201])
def test_a_triangle_is_inverted(size):
    rng = np.random.default_rng(size)
    lower = np.tril(rng.normal(size=(size, size)) / size) + np.diag(rng.uniform(1, 2, size))
    np.testing.assert_allclose(inverse_of_lower(lower) @ lower, np.eye(size), atol=1e-10)
    assert (np.triu(inverse_of_lower(lower), 1) == 0).all()


def test_a_second_look_at_a_candidate_gives_the_same():
    found = directions(inputs())
    first, taken = arrays(found.candidate(45))[0], found.taken(45, unseen=True)
    found.candidate(49)
    np.testing.assert_array_equal(arrays(found.candidate(45))[0], first)
    np.testing.assert_array_equal(found.taken(45, unseen=True), taken)


@pytest.mark.parametrize("toward", [None, TOWARD])
@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_candidate_is_fitted_once(toward, positions, limit, monkeypatch):
    """Also where nothing is small enough to be kept, as far as it is for one level."""
    x = inputs(COUNT * positions).reshape(COUNT, positions, IN).swapaxes(1, 2)
    found, roots, cholesky = directions(x, toward=toward), [], np.linalg.cholesky
    shares = {level: share for level, share, _ in found._parts(53)}
    monkeypatch.setattr(fits, "_BYTES_KEPT", limit)
    monkeypatch.setattr(np.linalg, "cholesky", lambda a: roots.append(a) or cholesky(a))
    found.taken(53, unseen=True)
    assert len(roots) == len(shares)
    found.taken(53)
    found.candidate(53)
    of_all = sum(share > 0 for share in shares.values())
    again = 0 if limit or len(shares) == 1 else 2 * of_all
    assert len(roots) == len(shares) + again


@pytest.mark.parametrize("toward", [None, TOWARD])
def test_roots_that_are_too_large_are_not_needed_again(toward, monkeypatch):
    found, roots, root = directions(inputs(200), toward=toward), [], Ridge.root
    monkeypatch.setattr(Ridge, "root", lambda self: roots.append(self) or root(self))
    monkeypatch.setattr(fits, "_BYTES_KEPT", 100_000)
    found.taken(53, unseen=True)
    fitted = len(roots)
    padded = np.zeros(10**6)
    assert found._fits._kept(("root", 999), lambda: padded) is padded
    found._fits._last.clear()
    found.taken(53)
    found.candidate(53)
    assert len(roots) == fitted


# What is largest goes first, and the oldest of equals; what is too large itself evicts nothing.
@pytest.mark.parametrize(
    ("sizes", "kept"),
    [((30, 30, 30), "bc"), ((10, 40, 20), "ac"), ((70, 10, 20), "bc"), ((10, 20, 70), "ab")],
)
def test_what_is_largest_is_kept_last(sizes, kept, monkeypatch):
    monkeypatch.setattr(fits, "_BYTES_KEPT", 64)
    found = directions(inputs())
    for name, size in zip("abc", sizes, strict=True):
        given = np.zeros(size, dtype=np.int8)
        assert found._fits._kept((name, 1), lambda given=given: given) is given
    assert "".join(name for name, _ in found._fits._memory) == kept
    name = kept[0], 1
    assert found._fits._kept(name, lambda: None) is found._fits._memory[name]


def test_roots_of_other_levels_go_before_what_is_larger(monkeypatch):
    """A root is not needed again where there is a solution."""
    monkeypatch.setattr(fits, "_BYTES_KEPT", 64)
    found = directions(inputs())._fits
    for kind, level, size in [("root", 1, 20), ("update", 1, 30), ("root", 2, 10)]:
        found._kept((kind, level), lambda size=size: np.zeros(size, dtype=np.int8))
    found._kept(("update", 2), lambda: np.zeros(20, dtype=np.int8))
    assert set(found._memory) == {("update", 1), ("root", 2), ("update", 2)}


def test_any_whole_number_is_a_level():
    found = directions(inputs())._fits
    for level in (0, -3, 90):
        assert found.root(level) is found.root(level)
        expected = Ridge(found.space, found.space.strength(level)).root()
        np.testing.assert_array_equal(found.root(level), expected)


def test_what_leaves_a_sample_out_is_made_only_for_that(monkeypatch):
    found = directions(inputs(), toward=TOWARD)
    monkeypatch.setattr(Ridge, "without", lambda *_, **__: pytest.fail("not needed"))
    found.taken(53)
    found.candidate(53)


def test_a_fit_takes_little_more_than_what_it_keeps_of_many_positions():
    count, positions = 20, 100
    x = inputs(count * positions).reshape(count, positions, IN).swapaxes(1, 2)
    kept = count * positions**2 * 8
    tracemalloc.start()
    found = directions(x)
    found.taken(40)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < most < 2.5 * kept


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


def test_a_fit_keeps_nothing_as_large_as_the_inputs_or_the_weight():
    """A search keeps every fit it tried, and a layer may have ten thousand inputs."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(40, 5000)), rng.normal(size=(30, 5000))
    network = Network([Dense("only", weight, np.zeros(30))])
    space = InputSpace.of(x, bias=True)
    found = Directions(network, network.layers()["only"], weight - 1, 2.0, space)
    found.change(41)  # what all fits share is computed by now
    tracemalloc.start()
    for number in range(42, 48):
        found.taken(number, unseen=True)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 6 * 30 * 5000 * 8 / 2


def test_more_samples_than_inputs_cost_no_matrix_over_the_samples():
    x = inputs(4000)
    tracemalloc.start()
    directions(x).taken(45, unseen=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * x.nbytes


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
