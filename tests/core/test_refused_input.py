"""What the one call refuses, with an error that names it."""

import backdoored
import numpy as np
import pytest
from backdoored_purified import CLEAN, TRIGGERED, purify, weight

import flain_core as flain
import flain_numpy
from flain_core import Settings


@pytest.fixture(scope="module")
def pair():
    return backdoored.networks()


def changed(network, layer, value):
    array = weight(network, layer).copy()
    array.flat[0] = value
    return flain_numpy.Network(
        [
            flain_numpy.Dense(op.name, array, op.bias)
            if isinstance(op, flain_numpy.Dense) and op.name == layer
            else op
            for op in network.operations
        ]
    )


def narrower():
    rng = np.random.default_rng(0)
    shapes = [(10, 12), (6, 10), (3, 6)]
    return flain_numpy.Network(
        [
            flain_numpy.Dense(f"fc{i + 1}", rng.normal(size=shape).astype(np.float32))
            for i, shape in enumerate(shapes)
        ]
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layers": "fc_1"}, flain.LayerError, "Did you mean 'fc1'"),
        ({"layers": ["fc1", "fc9"]}, flain.LayerError, "'fc1', 'fc2', 'fc3'"),
        ({"layers": "fc1.weight"}, flain.LayerError, "Did you mean 'fc1'"),
        ({"layers": None}, flain.LayerError, '"auto"'),
        ({"settings": {"tolerance": 0.1}}, flain.SettingsError, "flain.Settings("),
        ({"settings": Settings}, flain.SettingsError, "flain.Settings("),
        ({"probes": TRIGGERED}, flain.SettingsError, "by name"),
        ({"probes": {"clean": CLEAN}}, flain.SettingsError, "rename"),
        ({"score": "accuracy"}, flain.SettingsError, "function"),
        ({"initial": flain_numpy.Network}, flain.ModelError, "the class Network"),
        ({"initial": {"fc1": np.zeros((2, 2))}}, flain.FlainError, "fc1"),
        ({"data": list(CLEAN)}, flain.DataError, "Write data=(x, y)"),
        ({"data": CLEAN[0]}, flain.DataError, "labels are missing"),
        ({"data": {"x": CLEAN[0], "z": CLEAN[1]}}, flain.DataError, "expected a tuple (x, y)"),
        ({"layers": "conv"}, flain.LayerError, "no conv layer"),
        ({"layers": []}, flain.LayerError, "one or more layers"),
        ({"layers": ["fc1", "fc1"]}, flain.LayerError, "once"),
        ({"initial": "nowhere.npz"}, flain.FlainError, "nowhere.npz"),
        ({"initial": __file__}, flain.ModelError, "--architecture"),
        ({"initial": 42}, flain.ModelError, "int"),
        ({"data": (CLEAN[0], CLEAN[1] + 1)}, flain.DataError, "0 to 2"),
        ({"data": (CLEAN[0][:, :11], CLEAN[1])}, flain.FlainError, "11"),
        ({"data": (CLEAN[0], CLEAN[1][:-1])}, flain.DataError, "300 samples"),
        ({"probes": {"p": (CLEAN[0][:0], CLEAN[1][:0])}}, flain.DataError, "probe 'p'"),
        (
            {"probes": {"p": (CLEAN[0], CLEAN[1] + 1)}},
            flain.DataError,
            "probe 'p': expected labels",
        ),
        ({"batch_size": 0}, flain.SettingsError, "batch_size"),
        ({"batch_size": 2.5}, flain.SettingsError, "whole number"),
        ({"memory_limit": -1}, flain.SettingsError, "memory_limit"),
        ({"memory_limit": None}, flain.SettingsError, "memory_limit"),
        ({"seed": -1}, flain.SettingsError, "seed"),
        ({"probes": []}, flain.SettingsError, "by name"),
        ({"probes": {None: CLEAN}}, flain.SettingsError, "strings"),
        ({"score": lambda s, y: s}, flain.DataError, "one real number for each"),
        ({"score": lambda s, y: s[:, 0] * 1j}, flain.DataError, "one real number"),
        ({"score": lambda s, y: [[1], [2, 3]]}, flain.DataError, "list"),
        ({"score": lambda s, y: s[:, 0] * np.nan}, flain.DataError, "NaN"),
        (
            {"score": lambda s, y: -np.abs(s[:, :1] - y).mean(axis=1)},
            flain.DataError,
            "shape (256, 3) and y (256,): give both the same shape",
        ),
    ],
)
def test_bad_input_is_refused(pair, options, error, words):
    with pytest.raises(error) as caught:
        purify(pair, **options)
    assert words in str(caught.value)


def test_models_that_do_not_belong_together_are_refused(pair):
    initial, final = pair
    with pytest.raises(flain.WeightsError, match="equal weights"):
        purify((final, final))
    with pytest.raises(flain.WeightsError, match="'fc2' differs"):
        purify((narrower(), final))
    with pytest.raises(flain.WeightsError, match="different layers"):
        purify((flain_numpy.Network(initial.operations[:3]), final))
    with pytest.raises(flain.WeightsError, match="float64"):
        purify((backdoored.networks(dtype=np.float64)[0], final))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(pair, bad):
    initial, final = pair
    with pytest.raises(flain.WeightsError, match=r"NaN|finite"):
        purify((initial, changed(final, "fc1", bad)))
    with pytest.raises(flain.WeightsError, match=r"NaN|finite"):
        purify((changed(initial, "fc1", bad), final))


def test_models_in_each_others_place_are_refused(pair):
    with pytest.raises(flain.WeightsError, match=r"given in each other's place.*as the final"):
        flain.purify(pair[0], initial=pair[1], data=CLEAN)


def test_the_callers_labels_cannot_be_written_through_the_score(pair):
    def scribble(scores, y):
        y[:] = 0
        return scores[:, 0]

    with pytest.raises(ValueError, match="read-only"):
        purify(pair, score=scribble)
    assert CLEAN[1].any()
