"""Flipping in directions of a layer's inputs and of its outputs."""

import backdoored
import numpy as np
import pytest
from direction_cases import IN, OUT, arrays, covariance, directions, inputs

import flain_core as flain
from flain_core import Settings, per_layer
from flain_core.conformance.never_cut import never_cut
from flain_core.directions import Directions
from flain_core.input_space import InputSpace
from flain_core.output_space import OutputSpace
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(100, seed=12)
INITIAL, FINAL = backdoored.networks()
DIRECTIONS = Settings(flip="directions")


def change(found, x, number):
    """What a candidate takes from the weight, written out."""
    update, shrunk = found.layer.weight - found.initial, covariance(found.space, x)

    def alike(number):
        strength = found.space.strength(number)
        return found.factor * strength * update @ np.linalg.inv(shrunk + strength * np.eye(IN))

    outputs = OutputSpace.of(update @ update.T, alike(57) @ update.T / found.factor)
    return sum(
        (outputs.back * weights) @ outputs.into @ alike(level)
        for level, weights in outputs.parts(number)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [5, 25, 200])
@pytest.mark.parametrize("number", [3, 45, 60])
def test_the_weight_is_that_of_the_formula(bias, count, number):
    x = inputs(count)
    found = directions(x, bias=bias, by_output=True)
    final, offset = arrays(found.network)
    weight, moved = arrays(found.candidate(number))
    np.testing.assert_allclose(weight, final - change(found, x, number), rtol=0, atol=1e-8)
    if bias:
        before, after = x.mean(0) @ final.T + offset, x.mean(0) @ weight.T + moved
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [41, 48, 60])
def test_what_is_taken_is_what_the_weight_takes(number):
    x = inputs()
    found = directions(x, by_output=True)
    final, purified = found.network.predict(x), found.candidate(number).predict(x)
    np.testing.assert_allclose(found.taken(number), final - purified, rtol=0, atol=1e-9)


def without(found, x, sample, number, *, turned):
    """What a candidate takes from a sample, where all is fitted again without that.

    Each level's ridge problem is solved again, with the penalty and the divisor of all samples. So
    are the output directions, or if not turned, they are those of all samples.
    """
    space = found.space
    update = found.layer.weight - found.initial
    tokens = np.delete(x, sample, axis=0)
    rows, own = (np.moveaxis(some, 1, -1).reshape(-1, IN) for some in (tokens, x[[sample]]))
    mean = rows.mean(axis=0)
    seen = (1 - space.shrinkage) / len(space.centred) * (rows - mean).T @ (rows - mean)
    seen += space.shrinkage * np.diag(space.variance)

    def alike(number):
        strength = space.strength(number)
        return found.factor * strength * update @ np.linalg.inv(seen + strength * np.eye(IN))

    outputs = (
        OutputSpace.of(update @ update.T, alike(57) @ update.T / found.factor)
        if turned
        else found._outputs
    )
    taken = sum(
        (outputs.back * weights) @ outputs.into @ alike(level)
        for level, weights in outputs.parts(number)
    )
    return (own - mean) @ taken.T


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("count", [60, 200])
@pytest.mark.parametrize("number", [53, 57, 59])
def test_a_sample_is_left_out_as_if_refitted_without_it(positions, count, number):
    """The output directions are turned to first order: little of their turning is left."""
    x = inputs(count * positions).reshape(count, positions, IN).swapaxes(1, 2)
    found, some = directions(x, by_output=True), range(0, count, 3)
    taken = found.taken(number, unseen=True).reshape(count, positions, OUT)[some]
    exactly, in_old = (
        np.array([without(found, x, sample, number, turned=turned) for sample in some])
        for turned in (True, False)
    )
    error, turning = np.linalg.norm(taken - exactly), np.linalg.norm(in_old - exactly)
    assert error < 0.3 * turning


@pytest.mark.parametrize("number", [51, 53, 57])
def test_a_single_output_has_a_single_direction(number):
    """So nothing turns, and a candidate is that of the levels next to it, each without a sample."""
    x, rng = inputs(), np.random.default_rng(1)
    network = Network([Dense("only", rng.normal(size=(1, IN)), np.zeros(1))])
    given = network, network.layers()["only"], rng.normal(size=(1, IN)), 2.0
    space = InputSpace.of(x, bias=True)
    one, alike = (Directions(*given, space, by_output) for by_output in (True, False))
    share = (number - 51) / 6
    expected = (1 - share) * alike.taken(51, unseen=True) + share * alike.taken(57, unseen=True)
    np.testing.assert_allclose(one.taken(number, unseen=True), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-161, 1e-30, 1e156])
def test_the_scale_of_an_update_changes_nothing_else(scale):
    x, rng = inputs(), np.random.default_rng(1)
    update = rng.normal(size=(OUT, IN))
    plain, scaled = (
        Directions(network, network.layers()["only"], np.zeros((OUT, IN)), 2.0, space)
        for space in [InputSpace.of(x, bias=False)]
        for network in [Network([Dense("only", update * size)]) for size in (1.0, scale)]
    )
    for unseen in (False, True):
        taken = scaled.taken(53, unseen=unseen) / scale
        np.testing.assert_allclose(taken, plain.taken(53, unseen=unseen), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(scaled.change(53) / scale, plain.change(53), rtol=1e-6, atol=1e-9)


def test_a_great_strength_flips_all_alike():
    found = directions(inputs(), factor=2.0, by_output=True)
    final, _ = arrays(found.network)
    weight, _ = arrays(found.candidate(150))
    np.testing.assert_allclose(weight, final - 2 * (final - found.initial), rtol=0, atol=1e-6)


def test_the_last_candidate_flips_what_lies_furthest_behind_as_strongly_as_one_side_does():
    one, two = (directions(inputs(), by_output=by_output) for by_output in (False, True))
    last = len(two.strengths)
    assert last == len(one.strengths) + 12
    np.testing.assert_array_equal(two.strengths[:-12], one.strengths)
    assert last - two._outputs.behind.max() >= len(one.strengths)


def test_few_strengths_are_fitted_whatever_is_tried():
    found = directions(inputs(), by_output=True)
    for number in range(48, 58):
        found.taken(number)
    assert set(found._fits) <= {33, 39, 45, 51, 57}


def test_number_0_is_the_model_itself():
    found = directions(inputs(), by_output=True)
    for given, kept in zip(arrays(found.candidate(0)), arrays(found.network), strict=True):
        np.testing.assert_array_equal(given, kept)


def test_a_whole_purification_removes_a_backdoor():
    result = flain.purify(
        FINAL, initial=INITIAL, data=CLEAN, probes={"ASR": TRIGGERED}, settings=DIRECTIONS
    )
    layer = result.layers[0]
    assert (layer.flip, layer.method) == ("directions", "incremental")
    assert result.after.probes["ASR"] < result.before.probes["ASR"] / 10
    assert layer.stop_reason == "tolerance"


def test_a_layer_without_directions_is_refused():
    with pytest.raises(flain.LayerError, match="cannot be flipped in directions"):
        flain.purify(never_cut(FINAL), initial=never_cut(INITIAL), data=CLEAN, settings=DIRECTIONS)


@pytest.mark.parametrize("outputs", [1, 2, 1024, 1025])
def test_a_single_output_or_very_many_are_flipped_alike(outputs, monkeypatch):
    """A single one cannot be divided, and to find the directions of very many takes long."""
    asked = []
    monkeypatch.setattr(per_layer, "Directions", lambda *given: asked.append(given[-1]))
    rng = np.random.default_rng(0)
    initial, final = (
        Network([Dense("wide", rng.normal(size=(outputs, 12)).astype(np.float32))]) for _ in "ab"
    )
    with pytest.raises(AttributeError, match="strengths"):
        flain.purify(final, initial=initial, data=samples(outputs), settings=DIRECTIONS)
    assert asked == [outputs in (2, 1024)]


def samples(classes):
    rng = np.random.default_rng(1)
    return rng.normal(size=(20, 12)).astype(np.float32), rng.integers(0, classes, 20)
