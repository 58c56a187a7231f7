"""Promises of purifications, from the call to the report."""

import json

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.promise import Promise, most_newly_wrong, samples_needed

INITIAL, FINAL = backdoored.networks()
TRIGGERED = backdoored.triggered(200, seed=12)


def purify(count, seed=0, **settings):
    data = backdoored.samples(count, seed=11)
    return flain.purify(
        FINAL,
        initial=INITIAL,
        data=data,
        probes={"ASR": TRIGGERED},
        settings=Settings(**settings),
        seed=seed,
    )


def weight(network):
    return network.layers()["fc1"].weight


def newly_wrong(model, samples):
    x, y = samples
    return ((FINAL.predict(x).argmax(axis=1) == y) & (model.predict(x).argmax(axis=1) != y)).mean()


def test_enough_samples_are_told_what_can_be_promised():
    result = purify(400)
    assert result.promise.samples == 80
    assert result.promise == Promise.of(80, result.promise.allowed, 0.95)
    assert f"promise: {result.promise}" in result.notes
    assert f"promise={str(result.promise)!r}" in repr(result)
    assert newly_wrong(result.model, backdoored.samples(20_000, seed=99)) <= result.promise.loss


def test_few_samples_promise_nothing_and_say_so():
    result = purify(150)
    assert result.promise is None
    assert any("nothing is promised of new samples" in note for note in result.notes)
    assert result.to_dict()["promise"] is None


def test_a_promise_that_can_be_kept_changes_nothing():
    one, other = purify(1500, promise=0.3), purify(1500)
    np.testing.assert_array_equal(weight(one.model), weight(other.model))
    assert one.layers[0].stop_reason == other.layers[0].stop_reason != "promise"
    assert one.promise == Promise(0.3, 0.95, 476, most_newly_wrong(476, 0.3, 0.95))


@pytest.mark.filterwarnings("ignore:a tolerance of:flain_core.FlainWarning")
@pytest.mark.filterwarnings("ignore:some classes lost:flain_core.FlainWarning")
def test_a_strict_promise_holds_the_search_back():
    """A tolerance that lets the samples suffer, and a promise that does not."""
    loose = purify(1500, tolerance=0.25)
    strict = purify(1500, tolerance=0.25, promise=0.02)
    assert loose.layers[0].stop_reason == "tolerance"
    assert strict.layers[0].stop_reason == "promise"
    assert 0 < strict.layers[0].threshold < loose.layers[0].threshold
    assert strict.promise == Promise(0.02, 0.95, 476, most_newly_wrong(476, 0.02, 0.95))
    new = backdoored.samples(20_000, seed=99)
    assert newly_wrong(loose.model, new) > 0.04
    assert newly_wrong(strict.model, new) <= 0.02
    assert strict.after.probes["ASR"] < 0.1
    assert "promise" in {layer["stop_reason"] for layer in strict.to_dict()["layers"]}


@pytest.mark.parametrize("count", [100, 300])
def test_too_few_samples_for_a_promise_flip_nothing_and_say_how_many_it_takes(count):
    needed = samples_needed(0.01, 0.95)
    assert needed == 299
    with pytest.warns(FlainWarning) as raised:
        result = purify(count, promise=0.01)
    told = [str(each.message) for each in raised]
    held_back = round(0.6 * count)
    asked = f"{held_back} samples were held back, and a promise of 1.00% needs at least {needed}"
    assert any(asked in message for message in told)
    assert any(message.startswith("not flipped") for message in told)
    np.testing.assert_array_equal(weight(result.model), weight(FINAL))
    np.testing.assert_array_equal(result.model.layers()["fc1"].bias, FINAL.layers()["fc1"].bias)
    assert result.verdict == "not flipped"
    assert result.layers[0].stop_reason == "promise"
    assert result.layers[0].share == 0
    assert not result.layers[0].flipped.any()
    assert result.promise == Promise.of(held_back, 0, 0.95)
    assert result.before == result.after


def test_later_layers_are_passed_by_once_the_promise_ends_a_search():
    data = backdoored.samples(1500, seed=11)
    result = flain.purify(
        FINAL,
        initial=INITIAL,
        data=data,
        layers=["fc1", "fc2"],
        settings=Settings(tolerance=0.3, promise=0.02),
    )
    assert [layer.stop_reason for layer in result.layers] == ["promise", "promise"]
    assert result.layers[1].method == "none"
    np.testing.assert_array_equal(result.model.layers()["fc2"].weight, FINAL.layers()["fc2"].weight)


def test_a_promise_holds_for_neurons_as_well():
    result = purify(1500, tolerance=0.3, promise=0.02, flip="neurons")
    assert result.layers[0].stop_reason == "promise"
    assert newly_wrong(result.model, backdoored.samples(20_000, seed=99)) <= 0.02


def test_the_seed_decides_which_samples_are_held_back():
    one, same, other = (purify(400, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(weight(one.model), weight(same.model))
    assert not np.array_equal(weight(one.model), weight(other.model))


def test_a_report_holds_promise_verdict_and_losses():
    report = json.loads(json.dumps(purify(400).to_dict(), allow_nan=False))
    assert set(report["promise"]) == {"loss", "confidence", "samples", "allowed"}
    assert report["verdict"] == "flipped"
    layer = report["layers"][0]
    assert layer["flip"] == "directions"
    assert 0 < layer["share"] <= 1
    assert all(isinstance(step["loss"], float) for step in layer["steps"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"promise": 0}, "promise to be greater than 0"),
        ({"promise": 1}, "less than 1"),
        ({"promise": float("nan")}, "promise"),
        ({"promise": "1%"}, "promise to be a number"),
        ({"promise": True}, "promise to be a number"),
        ({"confidence": 0}, "confidence to be greater than 0"),
        ({"confidence": 1.0}, "less than 1"),
        ({"confidence": float("nan")}, "confidence"),
        ({"confidence": None}, "confidence to be a number"),
        ({"held_back": -0.1}, "held_back to be from 0 to 0.9"),
        ({"held_back": 0.91}, "held_back to be from 0 to 0.9"),
        ({"held_back": "half"}, "held_back to be a number"),
        ({"promise": 0.01, "held_back": 0}, "held back from the search"),
        ({"promise": 0.01, "measure": "score"}, "held back from the search"),
        ({"promise": 0.01, "match_norm": True}, "match_norm"),
        ({"measure": "loss"}, "measure"),
        ({"flip": "direction"}, "Did you mean 'directions'"),
        ({"flip": "directions", "statistic": "rms"}, "statistic goes with neurons only"),
        ({"flip": "directions", "match_norm": True}, "match_norm goes with neurons only"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, words):
    with pytest.raises(flain.SettingsError) as caught:
        Settings(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"promise": 0.1}, {"measure": "probability"}, {"held_back": 0.5}]
)
def test_what_needs_a_classifier_is_refused_with_a_score_of_the_callers(options):
    with pytest.raises(flain.SettingsError, match="promise"):
        flain.purify(
            FINAL,
            initial=INITIAL,
            data=backdoored.samples(300, seed=1),
            score=lambda scores, y: scores[:, 0],
            settings=Settings(**options),
        )


@pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning")
def test_samples_that_bear_out_nothing_promise_nothing():
    """What was never right cannot become newly wrong, and one class says nothing of others."""
    x, y = backdoored.samples(400, seed=7)
    shifted, alone = (x, (y + 1) % 3), (x[y == 1], y[y == 1])
    for data, warned in ((shifted, "no better than chance"), (alone, "of one class")):
        with pytest.warns(FlainWarning, match=warned):
            result = flain.purify(
                FINAL, initial=INITIAL, data=data, settings=Settings(held_back=0.3)
            )
        assert result.promise is None
        assert any("say nothing of others" in note for note in result.notes)
