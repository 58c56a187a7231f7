"""Flipping in directions of a layer's inputs, more strongly for some classes than for others."""

import backdoored
import numpy as np
import pytest
from direction_cases import (
    IN,
    OUT,
    TOWARD,
    arrays,
    covariance,
    directions,
    inputs,
    of_classes,
    whole_parts,
)

import flain_core as flain
from flain_core import Settings, per_layer
from flain_core.conformance.never_cut import never_cut
from flain_core.errors import LayerError
from flain_core.in_directions import directions as module
from flain_core.in_directions.class_directions import FURTHEST_BEHIND, class_directions
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_core.in_directions.votes import standing_by_votes, votes_of, weights_of
from flain_core.updates import shares_flipped
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(100, seed=12)
INITIAL, FINAL = backdoored.networks()
DIRECTIONS = Settings(flip="directions")


def written_out(found, seen, number):
    """What a candidate takes from the weight, with this matrix for the shrunk covariance."""
    update = found.layer.weight - found.initial

    def alike(number):
        strength = found.space.strength(number)
        return found.factor * strength * update @ np.linalg.inv(seen + strength * np.eye(IN))

    return sum(part @ alike(level) for level, part in whole_parts(found._foremost, number))


def change(found, x, number):
    """What a candidate takes from the weight."""
    return written_out(found, covariance(found.space, x), number)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [5, 25, 200])
@pytest.mark.parametrize("number", [3, 45, 60])
def test_the_weight_is_that_of_the_formula(bias, count, number):
    x = inputs(count)
    found = directions(x, bias=bias, toward=TOWARD)
    final, offset = arrays(found.network)
    weight, moved = arrays(found.candidate(number))
    np.testing.assert_allclose(weight, final - change(found, x, number), rtol=0, atol=1e-8)
    if bias:
        before, after = x.mean(0) @ final.T + offset, x.mean(0) @ weight.T + moved
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [0, 3, 48, 60, 77])
def test_the_share_of_a_class_is_that_of_the_weight(number):
    found = directions(inputs(), toward=TOWARD)
    before, after = (arrays(each)[0] for each in (found.network, found.candidate(number)))
    _, share = shares_flipped(found.initial, before, after, found.factor, found.first)
    assert found.class_share(number) == pytest.approx(share, rel=1e-6, abs=1e-12)
    assert directions(inputs()).class_share(number) is None
    assert found.class_share(0) == 0


@pytest.mark.parametrize("number", [41, 48, 60])
def test_what_is_taken_is_what_the_weight_takes(number):
    x = inputs()
    found = directions(x, toward=TOWARD)
    final, purified = found.network.predict(x), found.candidate(number).predict(x)
    np.testing.assert_allclose(found.taken(number), final - purified, rtol=0, atol=1e-9)


def without(found, x, sample, number):
    """What a candidate takes from a sample, where all is fitted again without that.

    Each level's ridge problem is solved again, with the penalty and the divisor of all samples. The
    order of the classes is that of all samples.
    """
    space = found.space
    tokens = np.delete(x, sample, axis=0)
    rows, own = (np.moveaxis(some, 1, -1).reshape(-1, IN) for some in (tokens, x[[sample]]))
    mean = rows.mean(axis=0)
    seen = (1 - space.shrinkage) / len(space.centred) * (rows - mean).T @ (rows - mean)
    seen += space.shrinkage * np.diag(space.variance)
    return (own - mean) @ written_out(found, seen, number).T


@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("count", [60, 200])
@pytest.mark.parametrize("number", [53, 57, 59])
def test_a_sample_is_left_out_as_if_refitted_without_it(positions, count, number):
    x = inputs(count * positions).reshape(count, positions, IN).swapaxes(1, 2)
    found, some = directions(x, toward=TOWARD), range(0, count, 3)
    taken = found.taken(number, unseen=True).reshape(count, positions, OUT)[some]
    exactly = np.array([without(found, x, sample, number) for sample in some])
    seen = found.taken(number).reshape(count, positions, OUT)[some]
    # Where a sample has several rows, each keeps a little more than exactly.
    error = np.linalg.norm(taken - exactly)
    assert error < (1e-9 if positions == 1 else 0.15) * np.linalg.norm(seen - exactly)


def test_the_class_whose_quiet_share_exceeds_most_is_flipped_most_strongly():
    """What a backdoor adds: something for one class, at inputs where clean data says little."""
    rng, x = np.random.default_rng(3), inputs(200)
    x[:, -2:] *= 0.01
    for target in (0, 1):
        update = rng.normal(size=(OUT, IN)) * (np.arange(IN) < IN - 2)
        update[:, -2:] = 2 * TOWARD[[target]].T
        network = Network([Dense("only", update)])
        space = InputSpace.of(x, bias=False)
        given = network, network.layers()["only"], np.zeros((OUT, IN)), 2.0, space
        found = Directions(*given, of_classes(TOWARD, 200))
        np.testing.assert_allclose(abs(found.first @ TOWARD[target]), 1.0)
        assert found.first_class == 10 + target


@pytest.mark.parametrize("told", [True, False])
def test_a_class_that_is_hard_to_learn_does_not_come_before_an_attacked_one(told):
    """Eight classes, of which the harder ones have more of the update where clean data is quiet."""
    rng, of_sample = np.random.default_rng(0), np.arange(800) % 8
    hard = np.array([1.6, 0.3, 0.4, 1.4, 0.6, 0.35, 0.8, 1.2])
    seen = np.eye(8)[of_sample] + hard * rng.normal(size=(800, 8))
    x = np.hstack([seen / seen.std(axis=0), 0.01 * rng.normal(size=(800, 8))])
    quiet = 0.4 * hard**0.08
    quiet[1] *= 1.08  # what a backdoor adds to an easy class
    update = np.hstack([np.eye(8), np.diag(np.sqrt(quiet / (1 - quiet)))])
    network = Network([Dense("only", update)])
    layer, space = network.layers()["only"], InputSpace.of(x, bias=False)
    labels = of_sample if told else rng.permutation(of_sample)
    found = Directions(
        network, layer, np.zeros((8, 16)), 2.0, space, (np.eye(8), labels, np.arange(8))
    )
    assert (abs(found.first).argmax() == 1) == told


@pytest.mark.parametrize("excess", [[0, 0, 0, 0, 0], [0.5, -1, 1, 0, -0.5], [9, 0, 1, 0, 0]])
@pytest.mark.parametrize("large", [1, 1000])
def test_the_class_that_quiet_inputs_speak_for_comes_first_unless_another_exceeds_by_far(
    excess, large, monkeypatch
):
    """Where all speak for one class alone, that is 2.5 standard deviations."""
    monkeypatch.setattr(module, "quiet_excess", lambda *given: np.array(excess, dtype=float))
    monkeypatch.setattr(module, "column_blocks", lambda whole: [slice(0, 4), slice(4, 105)])
    x = np.abs(np.random.default_rng(4).normal(size=(400, 105)))
    x *= np.repeat([1, 0.01], [5, 100])
    firsts = []
    for target in range(5):
        update = np.hstack([3 * np.eye(5), large * np.eye(5)[[target] * 100].T])
        network = Network([Dense("only", update)])
        given = network, network.layers()["only"], np.zeros((5, 105)), 2.0
        space = InputSpace.of(x, bias=False)
        firsts.append(abs(Directions(*given, space, of_classes(np.eye(5), 400)).first).argmax())
    assert firsts == ([0] * 5 if max(excess) > 2.5 else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_the_votes_of_all_quiet_inputs_are_added_to_the_quiet_shares(scale, monkeypatch):
    """Written out, for inputs of differing quietness in several blocks."""
    excess, asked = np.array([0.4, 1.5, 0.2, -0.3, 0.0]), []
    monkeypatch.setattr(module, "quiet_excess", lambda *given: excess)
    monkeypatch.setattr(module, "column_blocks", lambda whole: [slice(0, 5), slice(5, 12)])
    monkeypatch.setattr(
        module,
        "class_directions",
        lambda toward, standing: asked.append(standing) or class_directions(toward, standing),
    )
    rng = np.random.default_rng(8)
    x = np.abs(rng.normal(size=(400, 12))) * np.geomspace(1, 1e-3, 12)[rng.permutation(12)]
    update, space = rng.normal(size=(5, 12)), InputSpace.of(x, bias=False)
    network = Network([Dense("only", scale * update)])
    given = network, network.layers()["only"], np.zeros((5, 12)), 2.0, space
    Directions(*given, of_classes(np.eye(5), 400)).taken(50)
    weights = weights_of(update, space.quiet)
    expected = excess + standing_by_votes(votes_of(update, weights), weights)
    np.testing.assert_allclose(asked[0], expected, rtol=1e-9)


@pytest.mark.parametrize("positions", [1, 3])
def test_what_orders_the_classes_is_that_of_the_formulas(positions, monkeypatch):
    x = inputs(60 * positions).reshape(60, positions, IN).swapaxes(1, 2)
    found, asked = directions(x, toward=TOWARD), []
    original = module.quiet_excess
    monkeypatch.setattr(
        module, "quiet_excess", lambda *given: asked.append(given) or original(*given)
    )
    found.taken(50)
    ((quiet, whole, moved, of_sample),) = asked
    rows = np.moveaxis(x, 1, -1).reshape(-1, IN)
    update, seen = found.layer.weight - found.initial, covariance(found.space, rows)
    says = TOWARD @ update
    unit = np.trace(whole) / np.square(says).sum()
    np.testing.assert_allclose(whole, unit * says @ says.T)
    for products, number in zip(quiet, (63, 69), strict=True):
        strength = found.space.strength(number)
        kept = strength * says @ np.linalg.inv(seen + strength * np.eye(IN))
        np.testing.assert_allclose(products, unit * kept @ kept.T)
    by_sample = (rows - rows.mean(axis=0)).reshape(60, positions, IN).mean(axis=1) @ says.T
    np.testing.assert_allclose(moved, unit**0.5 * by_sample, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(of_sample, found.classes[1])


@pytest.mark.parametrize("scale", [1e-161, 1e-30, 1e156])
def test_the_scale_of_an_update_changes_nothing_else(scale):
    x, rng = inputs(), np.random.default_rng(1)
    update, classes = rng.normal(size=(OUT, IN)), of_classes(TOWARD, len(x))
    plain, scaled = (
        Directions(network, network.layers()["only"], np.zeros((OUT, IN)), 2.0, space, classes)
        for space in [InputSpace.of(x, bias=False)]
        for network in [Network([Dense("only", update * size)]) for size in (1.0, scale)]
    )
    for unseen in (False, True):
        taken = scaled.taken(53, unseen=unseen) / scale
        np.testing.assert_allclose(taken, plain.taken(53, unseen=unseen), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(scaled.change(53) / scale, plain.change(53), rtol=1e-6, atol=1e-9)


def test_a_great_strength_flips_all_alike():
    found = directions(inputs(), factor=2.0, toward=TOWARD)
    final, _ = arrays(found.network)
    weight, _ = arrays(found.candidate(150))
    np.testing.assert_allclose(weight, final - 2 * (final - found.initial), rtol=0, atol=1e-6)


def test_the_last_candidate_flips_what_lies_furthest_behind_as_strongly_as_all_alike():
    alike, unlike = (directions(inputs(), toward=toward) for toward in (None, TOWARD))
    last = len(unlike.strengths)
    assert last == len(alike.strengths) + FURTHEST_BEHIND
    np.testing.assert_array_equal(unlike.strengths[:-FURTHEST_BEHIND], alike.strengths)
    flipped = sum(level * part for level, part in whole_parts(unlike._foremost, last))
    assert np.linalg.eigvalsh(flipped).min() >= len(alike.strengths) - 1e-9


def test_few_strengths_are_fitted_whatever_is_tried():
    found = directions(inputs(), toward=TOWARD)
    for number in range(48, 58):
        found.taken(number)
    assert {level for _, level in found._fits._memory} <= {33, 39, 45, 51, 57, 63, 69}


def test_number_0_is_the_model_itself():
    found = directions(inputs(), toward=TOWARD)
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


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
@pytest.mark.filterwarnings("ignore:(partly|hardly) flipped:flain_core.FlainWarning")
def test_a_large_update_of_an_output_that_moves_nothing_protects_no_backdoor(scale):
    first, relu, second, *rest = FINAL.operations
    weight, after = first.weight.copy(), second.weight.copy()
    weight[0] *= scale
    after[:, 0] = 0
    large = Dense(first.name, weight, first.bias)
    attacked = Network([large, relu, Dense(second.name, after, second.bias), *rest])
    result = flain.purify(attacked, initial=INITIAL, data=CLEAN, probes={"ASR": TRIGGERED})
    assert result.before.probes["ASR"] > 0.99
    assert result.after.probes["ASR"] < 0.02


def test_a_layer_without_directions_is_refused():
    with pytest.raises(flain.LayerError, match="cannot be flipped in directions"):
        flain.purify(never_cut(FINAL), initial=never_cut(INITIAL), data=CLEAN, settings=DIRECTIONS)


@pytest.mark.parametrize("outputs", [1, 2, 1024, 1025])
def test_a_single_output_and_very_many_are_flipped_alike(outputs, monkeypatch):
    """A single one has no directions; of many it takes pushes for each to find out what they do."""
    asked = []
    monkeypatch.setattr(per_layer, "Directions", lambda *given: asked.append(given[5]))
    rng = np.random.default_rng(0)
    initial, final = (
        Network([Dense("wide", rng.normal(size=(outputs, 12)).astype(np.float32))]) for _ in "ab"
    )
    with pytest.raises(AttributeError, match="strengths"):
        flain.purify(final, initial=initial, data=samples(max(outputs, 2)), settings=DIRECTIONS)
    (found,) = asked
    assert bool(found) == (outputs not in (1, 1025))
    if found:
        toward, of_sample, labels = found
        assert toward.shape == (of_sample.max() + 1, outputs)
        assert len(labels) == len(toward)


def samples(classes):
    rng = np.random.default_rng(1)
    return rng.normal(size=(20, 12)).astype(np.float32), rng.integers(0, classes, 20)


@pytest.mark.parametrize("power", [120, 158])
def test_weights_that_are_too_large_beside_the_inputs_are_one_clear_error(power):
    """Products of the update overflow, although every score is finite."""
    x, rng = inputs() / 10.0**power, np.random.default_rng(1)
    network = Network([Dense("only", 10.0**power * rng.normal(size=(OUT, IN)))])
    given = network, network.layers()["only"], np.zeros((OUT, IN)), 2.0
    found = Directions(*given, InputSpace.of(x, bias=False), of_classes(TOWARD, len(x)))
    with pytest.raises(LayerError, match="weights are too large beside the layer's inputs"):
        found.taken(50)
