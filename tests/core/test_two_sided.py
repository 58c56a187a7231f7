"""Flipping in directions of a layer's inputs and of its outputs."""

import backdoored
import numpy as np
import pytest
from direction_cases import COUNT, IN, OUT, arrays, covariance, directions, inputs

import flain_core as flain
from flain_core import Settings
from flain_core.conformance.never_cut import never_cut
from flain_core.input_space import InputSpace
from flain_core.output_space import OutputSpace
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(100, seed=12)
INITIAL, FINAL = backdoored.networks()
TWO_SIDED = Settings(flip="two_sided")


def change(found, x, number):
    """What a candidate takes from the weight, written out."""
    update, shrunk = found.layer.weight - found.initial, covariance(found.space, x)

    def alike(number):
        strength = found.space.strength(number)
        return found.factor * strength * update @ np.linalg.inv(shrunk + strength * np.eye(IN))

    outputs = OutputSpace.of(update, alike(57) / found.factor)
    return sum(part @ alike(level) for level, part in outputs.parts(number))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [5, 25, 200])
@pytest.mark.parametrize("number", [3, 45, 60])
def test_the_weight_is_that_of_the_formula(bias, count, number):
    x = inputs(count)
    found = directions(x, bias=bias, two_sided=True)
    final, offset = arrays(found.network)
    weight, moved = arrays(found.candidate(number))
    np.testing.assert_allclose(weight, final - change(found, x, number), rtol=0, atol=1e-8)
    if bias:
        before, after = x.mean(0) @ final.T + offset, x.mean(0) @ weight.T + moved
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [41, 48, 60])
def test_what_is_taken_is_what_the_weight_takes(number):
    x = inputs()
    found = directions(x, two_sided=True)
    final, purified = found.network.predict(x), found.candidate(number).predict(x)
    np.testing.assert_allclose(found.taken(number), final - purified, rtol=0, atol=1e-9)
    some = slice(3, 9)
    np.testing.assert_allclose(found.taken(number, some), found.taken(number)[some], atol=1e-12)


@pytest.mark.parametrize("count", [COUNT, 5])
def test_a_sample_is_left_out_as_if_refitted_without_it(count):
    """Each level's ridge problem solved again without one sample, in the same output directions."""
    x, number = inputs(count), 55
    whole = InputSpace.of(x, bias=True)
    found = directions(x, space=whole, two_sided=True)
    update = found.layer.weight - found.initial
    outputs, taken = found._outputs, found.taken(number, unseen=True)
    rows = np.column_stack([x - whole.mean, np.ones(count)])
    for left_out in range(count):
        others, fitted = np.delete(rows, left_out, axis=0), 0.0
        for level, part in outputs.parts(number):
            strength = whole.strength(level)
            normal = (1 - whole.shrinkage) / count * others.T @ others
            normal[:IN, :IN] += whole.shrinkage * np.diag(whole.variance) + strength * np.eye(IN)
            pull = np.zeros((IN + 1, OUT))
            pull[:IN] = found.factor * strength * update.T
            fitted = fitted + np.linalg.solve(normal, pull) @ part.T
        np.testing.assert_allclose(taken[left_out], rows[left_out] @ fitted, rtol=0, atol=1e-8)


def test_a_great_strength_flips_all_alike():
    found = directions(inputs(), factor=2.0, two_sided=True)
    final, _ = arrays(found.network)
    weight, _ = arrays(found.candidate(150))
    np.testing.assert_allclose(weight, final - 2 * (final - found.initial), rtol=0, atol=1e-6)


def test_the_last_candidate_flips_what_lies_furthest_behind_as_strongly_as_one_side_does():
    one, two = (directions(inputs(), two_sided=two_sided) for two_sided in (False, True))
    last = len(two.strengths)
    assert last == len(one.strengths) + 12
    np.testing.assert_array_equal(two.strengths[:-12], one.strengths)
    assert last - two._outputs.behind.max() >= len(one.strengths)


def test_few_strengths_are_fitted_whatever_is_tried():
    found = directions(inputs(), two_sided=True)
    for number in range(48, 58):
        found.taken(number)
    assert set(found._fits) <= {33, 39, 45, 51, 57}


def test_number_0_is_the_model_itself():
    found = directions(inputs(), two_sided=True)
    for given, kept in zip(arrays(found.candidate(0)), arrays(found.network), strict=True):
        np.testing.assert_array_equal(given, kept)


def test_a_whole_purification_removes_a_backdoor():
    result = flain.purify(
        FINAL, initial=INITIAL, data=CLEAN, probes={"ASR": TRIGGERED}, settings=TWO_SIDED
    )
    plain = flain.purify(FINAL, initial=INITIAL, data=CLEAN, settings=Settings(flip="directions"))
    layer = result.layers[0]
    assert (layer.flip, layer.method) == ("directions", "incremental")
    assert result.after.probes["ASR"] < result.before.probes["ASR"] / 10
    assert layer.stop_reason == "tolerance"
    assert not np.array_equal(
        result.model.layers()["fc1"].weight, plain.model.layers()["fc1"].weight
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"statistic": "rms"}, "goes with neurons only"), ({"match_norm": True}, "neurons only")],
)
def test_it_goes_with_no_setting_of_neurons(settings, reason):
    with pytest.raises(flain.SettingsError, match=reason):
        Settings(flip="two_sided", **settings)


def test_a_layer_without_directions_is_refused():
    with pytest.raises(flain.LayerError, match="cannot be flipped in directions"):
        flain.purify(never_cut(FINAL), initial=never_cut(INITIAL), data=CLEAN, settings=TWO_SIDED)


def test_a_layer_with_too_many_outputs_is_refused_by_name():
    wide = [Network([Dense("wide", np.full((2049, 12), value, np.float32))]) for value in (0, 1)]
    with pytest.raises(flain.LayerError, match=r"'wide' has 2049 outputs; expected at most 2048"):
        flain.purify(wide[1], initial=wide[0], data=CLEAN, settings=TWO_SIDED, outputs="logits")


def test_samples_elsewhere_have_no_directions():
    with pytest.raises(flain.SettingsError, match="needs samples in this process"):
        TWO_SIDED.resolved(classify=True, local=False)
