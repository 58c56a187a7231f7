"""What an outcome keeps for its report: numbers of samples, classes, norms of updates."""

import json

import backdoored
import numpy as np
import pytest
from in_process import InProcess, split

import flain_core as flain
from flain_core import Layer, Settings
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.reporting.details import norms

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()
ALL_SEARCH = Settings(held_back=0)
WAYS = {
    "directions": ALL_SEARCH,
    "neurons": Settings(held_back=0, flip="neurons"),
    "score": Settings(measure="score", flip="neurons"),
    "published": Settings.published("mnist"),
    "reset": Settings(held_back=0, factor=1),
}


def purify(**options):
    return flain.purify(FINAL, **{"initial": INITIAL, "data": CLEAN} | options)


def right_by_class(network):
    x, y = CLEAN
    right = network.predict(x).argmax(axis=1) == y
    return [int(right[y == label].sum()) for label in range(3)]


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("batch_size", [None, 70])
def test_classes_are_counted_on_the_models_before_and_after(settings, batch_size):
    result = purify(settings=settings, layers="dense", batch_size=batch_size)
    assert [each.label for each in result.by_class] == [0, 1, 2]
    assert [each.right_before for each in result.by_class] == right_by_class(FINAL)
    assert [each.right_after for each in result.by_class] == right_by_class(result.model)
    assert sum(each.samples for each in result.by_class) == 300
    right = sum(each.right_after for each in result.by_class)
    assert right / 300 == pytest.approx(result.after.clean)


def test_classes_are_those_of_the_searching_samples_alone():
    result = purify()
    assert sum(each.samples for each in result.by_class) == result.before.samples["clean"] == 240


def test_numbers_of_samples_go_with_accuracies():
    result = purify(settings=ALL_SEARCH, probes={"ASR": backdoored.triggered(90, seed=3)})
    probed = len(backdoored.triggered(90, seed=3)[1])
    assert result.before.samples == result.after.samples == {"clean": 300, "ASR": probed}


def test_the_mean_probability_is_that_of_the_true_class():
    x, y = CLEAN
    result = purify(settings=ALL_SEARCH)
    for network, measured in ((FINAL, result.before), (result.model, result.after)):
        scores = np.exp(network.predict(x).astype(np.float64))
        probability = (scores / scores.sum(axis=1, keepdims=True))[np.arange(300), y].mean()
        assert measured.probability == pytest.approx(probability, abs=1e-5)


def test_a_score_of_the_callers_has_no_classes_and_no_numbers_of_samples():
    result = purify(score=lambda scores, y: -np.square(scores.argmax(axis=1) - y).astype(float))
    assert result.by_class == ()
    assert result.before.samples == {}
    assert result.before.probability is None


def test_samples_elsewhere_have_no_classes_but_norms():
    holders = InProcess(split(CLEAN, 3)[0])
    result = purify(data=CoordinatedSamples(holders))
    assert result.by_class == ()
    assert result.before.samples == {"clean": 300}
    assert result.layers[0].norms.update.shape == (12,)
    assert result.layers[0].grid is None


@pytest.mark.parametrize("factor", [2.0, 1.5])
def test_norms_are_those_of_the_weights_by_input_neuron(factor):
    result = purify(settings=Settings(factor=factor, flip="neurons"))
    outcome, measured = result.layers[0], result.layers[0].norms
    initial, trained, purified = (
        each.layers()["fc1"].weight.astype(float) for each in (INITIAL, FINAL, result.model)
    )
    np.testing.assert_allclose(measured.update, np.linalg.norm(trained - initial, axis=0))
    np.testing.assert_allclose(measured.change, np.linalg.norm(purified - trained, axis=0))
    assert measured.initial == pytest.approx(np.linalg.norm(initial))
    assert measured.trained == pytest.approx(np.linalg.norm(trained))
    assert measured.purified == pytest.approx(np.linalg.norm(purified))
    share = np.square(measured.change).sum() / np.square(factor * measured.update).sum()
    assert share == pytest.approx(outcome.share, rel=1e-5)


def test_norms_of_a_grouped_convolution_belong_to_its_input_channels():
    weight = np.zeros((4, 3, 1, 2), dtype=np.float32)  # two groups of two outputs and three inputs
    weight[0, 1, 0] = 3, 4
    weight[3, 2, 0] = 0, 2
    measured = norms(Layer("conv", "conv", weight, groups=2), np.zeros_like(weight), weight)
    np.testing.assert_allclose(measured.update, [0, 5, 0, 0, 0, 2])
    np.testing.assert_allclose(measured.change, 0)


def test_norms_of_weights_whose_squares_are_out_of_range_are_right():
    weight = np.full((2, 2), 1e-200)
    measured = norms(Layer("fc", "dense", weight), np.zeros((2, 2)), -weight)
    np.testing.assert_allclose(measured.update, 2**0.5 * 1e-200)
    assert measured.trained == pytest.approx(2e-200)


def test_json_has_it_all():
    told = json.loads(json.dumps(purify(settings=ALL_SEARCH).to_dict()))
    assert told["by_class"][0]["label"] == 0
    assert told["before"]["samples"] == {"clean": 300}
    assert len(told["layers"][0]["norms"]["update"]) == 12
    assert told["layers"][0]["grid"] is None


def test_norms_of_a_weight_in_many_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    initial, trained, purified = rng.normal(size=(3, 12, 5, 3, 2)).astype(np.float32)
    layer = Layer("conv", "conv", trained, groups=3)
    whole = norms(layer, initial, purified)
    monkeypatch.setattr("flain_core.blocks._BLOCK_BYTES", 5 * 8 * 30)  # groups have four rows
    parts = norms(layer, initial, purified)
    np.testing.assert_allclose(parts.update, whole.update)
    np.testing.assert_allclose(parts.change, whole.change)
    assert parts.trained == pytest.approx(whole.trained)
