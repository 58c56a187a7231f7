"""Copies of Keras models, and the originals, on each engine; test_keras.py runs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_models as models
import numpy as np
import pytest
from keras import layers as L
from keras_cases import CASES, EVERY_CASE, Case, N, close, patched

import flain_core as flain
import flain_keras
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("build", [models.subclassed])
def test_a_subclassed_model_is_copied_with_all_that_it_holds(build: Callable[..., Any]) -> None:
    model = build()
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    network = open_network(model)
    expected = keras.ops.convert_to_numpy(keras.ops.stop_gradient(model(x, training=False)))
    close(network.predict(x), expected, 1e-6)
    names = list(network.layers())
    assert len(names) == 3
    assert names[0].startswith("block")
    assert "/dense" in names[0]
    native = network.native
    assert type(native) is type(model)
    assert native.temperature == 3.0
    native.set_weights([0 * w for w in native.get_weights()])
    close(network.predict(x), expected, 1e-6)
    native.compile("sgd", "mse")
    native.fit(x, np.ones((4, 3)), verbose=0)
    model.temperature = 5.0
    close(network.predict(x), expected, 1e-6)
    cut = network.cut(names[1], x)
    for _ in range(3):
        close(cut.tail(cut.output), expected, 1e-6)
    assert cut._tail._traced is not None


def test_a_trained_model_is_copied_and_its_copy_can_be_trained_and_saved(tmp_path: Path) -> None:
    model = CASES["residual"].model()
    x = CASES["residual"].batch()
    model.compile("adam", "mse")
    model.fit(x, np.zeros((N, 3)), verbose=0)
    expected = model.predict(x, verbose=0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        network = open_network(model)
    assert not any("optimizer" in str(each.message) for each in warned)
    close(network.predict(x), expected, 1e-6)
    native = network.native
    native.save(tmp_path / "copy.keras")
    close(open_network(flain_keras.load(tmp_path / "copy.keras")).predict(x), expected, 1e-6)
    native.compile("sgd", "mse")
    native.fit(x, np.ones((N, 3)), verbose=0)
    close(network.predict(x), expected, 1e-6)
    close(model.predict(x, verbose=0), expected, 0)


def test_a_deep_model_is_copied() -> None:
    x = h = keras.Input((4,))
    for _ in range(120):
        h = L.Activation("tanh")(h)
    network = open_network(keras.Model(x, L.Dense(3, name="head")(h)))
    assert list(network.layers()) == ["head"]


@EVERY_CASE
def test_the_callers_model_stays_as_it_is(case: Case) -> None:
    model = case.model()
    weights = models.fingerprint(model)
    network = open_network(model)
    x = case.batch()
    given = x.copy()
    for name, layer in network.layers().items():
        cut = network.cut(name, x)
        for _ in range(3):
            cut.tail(cut.output)
        network.replace({name: -layer.weight}).predict(x)
    assert models.fingerprint(model) == weights
    assert np.array_equal(x, given)
    assert not patched(model)


def test_nothing_stays_patched_after_an_exception() -> None:
    model = CASES["residual"].model()
    network, weights = open_network(model), models.fingerprint(model)
    cut = network.cut("wide", CASES["residual"].batch())
    for wrong in (np.ones((N, 9, 1), np.float32), np.ones((2, 9), np.float32)):
        with pytest.raises(flain.ModelError, match="expected shape"):
            cut.tail(wrong)
    with pytest.raises(flain.ModelError, match="failed on data of shape"):
        network.cut("wide", np.ones((2, 5), np.float32))
    assert not patched(network._model)
    assert not patched(model)
    assert vars(network._find("first").layer)["activation"] is not None
    assert models.fingerprint(model) == weights


def test_an_attribute_that_keras_would_lose_does_not_get_lost() -> None:
    from flain_keras import _copy

    model = models.subclassed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        poor = _copy._copied_objects(model)
        poor.temperature = 1.0
        assert _copy._difference(model, poor) == f"the attribute 'temperature' of {model.name!r}"
        poor = _copy._copied_objects(model)
        poor.set_weights([0 * w for w in poor.get_weights()])
        assert "weight" in str(_copy._difference(model, poor))
