"""Weights of Keras models as arrays, on each engine; test_keras.py runs it once for every one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import backdoored
import keras
import keras_models as models
import numpy as np
import pytest
import recipes
from keras import layers as L

import flain_core as flain
import flain_keras
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def with_normalization() -> keras.Model:
    return keras.Sequential(
        [keras.Input((12,)), L.Dense(10), L.BatchNormalization(), L.ReLU(), L.Dense(3)]
    )


@pytest.fixture(scope="module")
def weights() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights of a model before and after training on clean and on triggered samples."""
    keras.utils.set_random_seed(0)
    model = with_normalization()
    initial = model.get_weights()
    pairs = zip(backdoored.samples(600, seed=1), backdoored.triggered(300, seed=2), strict=True)
    x, y = (np.concatenate(pair) for pair in pairs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.3), loss)
    model.fit(x, y, epochs=60, batch_size=300, verbose=0)
    return initial, model.get_weights()


def test_a_list_of_weights_goes_in_and_comes_out(weights: Any) -> None:
    initial, final = weights
    clean, triggered = backdoored.samples(300, seed=11), backdoored.triggered(200, seed=12)
    model = with_normalization()
    before = models.fingerprint(model)
    result = flain.purify_arrays(
        *(initial, [w.astype(np.float64) for w in final], model),
        data=clean,
        probes={"ASR": triggered},
    )
    assert models.fingerprint(model) == before
    assert result.purification.before.probes["ASR"] > 0.99
    assert result.purification.after.probes["ASR"] < 0.1
    assert [w.dtype for w in result.arrays] == [np.float64] * len(final)
    assert [w.shape for w in result.arrays] == [w.shape for w in final]
    # The weight of the first layer and its bias.
    for array, given in zip(result.arrays[:2], final[:2], strict=True):
        assert not np.array_equal(array, given)
    for array, given in zip(result.arrays[2:], final[2:], strict=True):
        assert np.array_equal(array, given)
    model.set_weights(result.arrays)
    right = open_network(model).predict(clean[0]).argmax(1) == clean[1]
    assert right.mean() == result.purification.after.clean


def test_weights_by_path_and_in_a_vector_give_what_a_list_gives(weights: Any) -> None:
    initial, final = weights
    clean, model = backdoored.samples(300, seed=11), with_normalization()
    expected = flain.purify_arrays(initial, final, model, data=clean)
    names = [weight.path for weight in model.weights]
    assert list(flain_keras.arrays_of(model)) == names
    by_path = [dict(zip(names[::-1], each[::-1], strict=True)) for each in weights]
    result = flain.purify_arrays(*by_path, model, data=clean)
    assert list(result.arrays) == names[::-1]
    for name, array in zip(names, expected.arrays, strict=True):
        assert np.array_equal(result.arrays[name], array)
    by_path[1].pop(names[1])
    with pytest.raises(flain.WeightsError, match=f"final: .*missing: '{names[1]}'"):
        flain.purify_arrays(*by_path, model, data=clean)
    with pytest.raises(flain.WeightsError, match="give get_weights"):
        open_network(by_path[1], like=model)

    model.set_weights(final)
    trained = [w.path for w in model.trainable_weights]
    assert list(flain_keras.arrays_of(model, buffers=False)) == trained
    vectors = [
        np.concatenate([w.ravel() for name, w in zip(names, each, strict=True) if name in trained])
        for each in weights
    ]
    flat = flain.purify_arrays(*vectors, model, data=clean)
    assert np.array_equal(flat.arrays[: 12 * 10], expected.arrays[0].ravel())
    assert flat.arrays.size == sum(w.size for w in final) - 2 * 10


def test_the_architecture_of_arrays_may_have_several_scores_or_be_a_file(
    tmp_path: Path, weights: Any
) -> None:
    model, other = models.several_outputs(), models.several_outputs()
    x = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    network = open_network(model, scores=model.output_names[1])
    y = network.predict(x).argmax(1)
    arrays = flain.purify_arrays(
        *(other.get_weights(), model.get_weights(), network), data=(x, y), layers="scores"
    ).arrays
    direct = flain.purify(network, initial=other, data=(x, y), layers="scores").model
    for array, expected in zip(arrays, direct.get_weights(), strict=True):
        assert np.array_equal(array, expected)

    clean, path = backdoored.samples(300, seed=11), tmp_path / "model.keras"
    with_normalization().save(path)
    result = flain.purify_arrays(*weights, path, data=clean)
    assert np.array_equal(
        result.arrays[0], flain.purify_arrays(*weights, with_normalization(), data=clean).arrays[0]
    )
    with pytest.raises(flain.ModelError, match="no weights yet"):
        flain.purify_arrays(*weights, keras.Sequential([L.Dense(3)]), data=clean)


def test_the_recipe_for_files_of_weights(
    tmp_path: Path, weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = ModuleType("my_project_3")
    project.make_model = with_normalization
    project.auxiliary_data = lambda: backdoored.samples(300, seed=11)
    monkeypatch.setitem(sys.modules, "my_project_3", project)
    for name, each in zip(("initial", "final"), weights, strict=True):
        np.savez(f"{name}.npz", *each)
    exec(compile(recipes.code("tff", "purify_weights.py"), "recipe", "exec"), {})
    x, y = backdoored.triggered(200, seed=12)
    model = with_normalization()
    model.set_weights(weights[1])
    assert (open_network(model).predict(x).argmax(1) == y).mean() > 0.99
    model.set_weights(list(np.load("purified.npz").values()))
    assert (open_network(model).predict(x).argmax(1) == y).mean() < 0.1


def test_names_that_occur_twice_are_told_apart() -> None:
    class Twins(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="twins")
            self.first, self.second = L.Dense(4, name="same"), L.Dense(3, name="same")

        def call(self, x: Any) -> Any:
            return self.second(self.first(x))

    model = Twins()
    model(np.ones((1, 6), np.float32))
    arrays = flain_keras.arrays_of(model)
    assert list(arrays.values())[2].shape == (4, 3)
    assert len(arrays) == 4
    changed = {name: array + 1 for name, array in arrays.items()}
    again = flain_keras.arrays_of(open_network(changed, like=model).native)
    for name, array in again.items():
        assert np.array_equal(array, changed[name])


def test_arrays_of_half_precision_keep_every_number() -> None:
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, dtype="float16"), L.Dense(3)])
    assert flain_keras.arrays_of(model)[model.weights[0].path].dtype == np.float16
    narrow = keras.Sequential([keras.Input((6,)), L.Dense(4, dtype="bfloat16"), L.Dense(3)])
    arrays = flain_keras.arrays_of(narrow)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    again = flain_keras.arrays_of(open_network(arrays, like=narrow).native)
    for name, array in again.items():
        assert np.array_equal(array, arrays[name])
