"""Keras models as they are opened, and which are refused; test_keras.py runs it on each engine."""

from __future__ import annotations

from typing import Any

import keras
import keras_models as models
import numpy as np
import outputs_alike
import pytest
from keras import layers as L
from keras_cases import CASES

import flain_core as flain
import flain_keras
from flain_core.backend_kit import AS_TRAINED
from flain_core.opening import registry
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def test_a_keras_model_is_opened_by_this_backend_on_every_engine() -> None:
    for case in CASES.values():
        assert isinstance(registry.open_network(case.model()), flain_keras.KerasNetwork)
    assert "keras" in registry.versions(models.shared())


def test_names_of_the_final_model_are_taken_over() -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((6,)), L.Dense(5), L.Dense(3)])

    final, initial = build(), build()
    assert list(open_network(final).layers()) != list(open_network(initial).layers())
    assert list(open_network(initial, like=final).layers()) == [each.name for each in final.layers]
    other = keras.Sequential([keras.Input((6,)), L.Dense(5, name="a"), L.Dense(4, name="b")])
    assert list(open_network(other, like=final).layers()) == ["a", "b"]


def test_samples_beyond_the_range_are_named() -> None:
    network = open_network(CASES["residual"].model())
    with pytest.raises(flain.DataError, match=r"range of float32.*up to 1.0e\+300: scale"):
        network.predict(np.full((3, 8), 1e300))


def test_unfit_models_are_refused() -> None:
    with pytest.raises(flain.ModelError, match="no weights yet"):
        open_network(keras.Sequential([L.Dense(3)]))
    with pytest.raises(flain.ModelError, match=r"keras\.Sequential"):
        open_network(L.Dense(3))
    with pytest.raises(flain.ModelError, match=r"expected a keras\.Model"):
        registry.open_network(L.Dense(3))
    model = CASES["residual"].model()
    with pytest.raises(flain.WeightsError, match="do not fit"):
        open_network(model.get_weights()[:-1], like=model)


def test_an_output_is_chosen() -> None:
    model = models.several_outputs()
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    with pytest.raises(flain.ModelError, match=r"2 outputs.*scores=name"):
        open_network(model).predict(x)
    assert open_network(model, scores=1).predict(x).shape == (4, 3)
    with pytest.raises(flain.ModelError, match="no output 'nothing'"):
        open_network(model, scores="nothing").predict(x)
    network = open_network(model, scores=model.output_names[1])
    y = network.predict(x).argmax(1)
    initial = models.several_outputs()
    result = flain.purify(network, initial=initial, data=(x, y), layers="scores")
    assert isinstance(result.model, keras.Model)
    assert flain.purify(network, initial=initial.get_weights(), data=(x, y)).model.built


@pytest.mark.parametrize("ending", outputs_alike.ENDINGS)
def test_one_output_and_probabilities_are_purified_without_a_score(ending: Any) -> None:
    def build(which: Any) -> keras.Model:
        held = outputs_alike.weights(ending, which)
        last = None if ending == "logit" else ending
        scores = L.Dense(len(held.fc2), activation=last, name="fc2")
        model = keras.Sequential([L.Input((12,)), L.Dense(9, "relu", name="fc1"), scores])
        model.set_weights([held.fc1.T, held.bias1, held.fc2.T, held.bias2])
        return model

    outputs_alike.check(build, ending)


def test_images_in_the_other_layout_are_told_how_to_turn() -> None:
    model = keras.Sequential([keras.Input((8, 9, 1)), L.Conv2D(2, 3), L.Flatten(), L.Dense(3)])
    network = open_network(model)
    with pytest.raises(flain.ModelError, match=r"NHWC.*np.transpose\(x, \(0, 2, 3, 1\)\)") as told:
        network.predict(np.ones((4, 1, 8, 9), np.float32))
    assert str(told.value).isprintable()
    assert "Arguments received" not in str(told.value)
    assert AS_TRAINED not in str(told.value)
    # What fits no layout is not guessed at.
    with pytest.raises(flain.ModelError, match="failed on data of shape") as told:
        network.predict(np.ones((4, 5, 8, 9), np.float32))
    assert "transpose" not in str(told.value)
    assert str(told.value).endswith("; " + AS_TRAINED)
