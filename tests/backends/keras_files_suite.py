"""Files of Keras models, and data sets of Keras; test_keras.py runs it on each engine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras_cases import CASES, ENGINE, close

import flain_core as flain
import flain_keras
from flain_core.auxiliary.samples import Samples
from flain_core.opening import registry
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def test_files(tmp_path: Path) -> None:
    model, x = CASES["cnn"].model(), CASES["cnn"].batch()
    scores = open_network(model).predict(x)
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"model{suffix}"
        registry.save(model, path)
        close(registry.open_network(path).predict(x), scores, 1e-6)
        before = path.read_bytes()
        with pytest.raises(flain.OutputError, match="exists already"):
            flain_keras.save(model, path)
        assert path.read_bytes() == before
        path.write_bytes(before[: len(before) // 2])
        with pytest.raises(flain.WeightsError, match="damaged"):
            flain_keras.load(path)
        flain_keras.save(model, path, overwrite=True)
        close(open_network(flain_keras.load(path)).predict(x), scores, 1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.h5", "model.keras"]
    with pytest.raises(flain.OutputError, match=r"\.keras or \.h5"):
        flain_keras.save(model, tmp_path / "model.onnx")
    with pytest.raises(flain.ModelError, match="SavedModel"):
        flain_keras.load(tmp_path)
    with pytest.raises(flain.WeightsError, match="no such file"):
        flain_keras.load(tmp_path / "missing.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_with_code_of_their_own_are_refused(tmp_path: Path, suffix: str) -> None:
    with_lambda = keras.Sequential(
        [keras.Input((6,)), L.Lambda(lambda x: x * 2, output_shape=(6,)), L.Dense(3)]
    )
    with_lambda.save(tmp_path / f"lambda{suffix}")
    with pytest.raises(flain.ModelError, match="Lambda"):
        flain_keras.load(tmp_path / f"lambda{suffix}")
    if suffix == ".keras":
        assert flain_keras.load(tmp_path / "lambda.keras", safe_mode=False).built
    own = type("Own", (L.Dense,), {})
    keras.Sequential([keras.Input((6,)), own(3)]).save(tmp_path / f"own{suffix}")
    with pytest.raises(flain.ModelError, match="custom_objects"):
        flain_keras.load(tmp_path / f"own{suffix}")
    assert flain_keras.load(tmp_path / f"own{suffix}", custom_objects={"Own": own}).built


def test_a_file_of_an_older_keras_is_told_how_to_load_it(tmp_path: Path) -> None:
    """Keras 3 knows no ``groups`` of a DepthwiseConv2D; the 1 that Keras 2 wrote is left out."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "old.h5"
    layers = [keras.Input((4, 4, 2)), L.DepthwiseConv2D(3), L.Flatten(), L.Dense(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Sequential(layers).save(path)
    with h5py.File(path, "a") as file:
        config = file.attrs["model_config"]
        changed = config.replace('"depth_multiplier"', '"groups": 2, "depth_multiplier"')
        assert changed != config
        file.attrs["model_config"] = changed
    with pytest.raises(flain.ModelError, match=r"custom_objects=.'DepthwiseConv2D'") as told:
        flain_keras.load(path)
    assert "groups" in str(told.value)
    assert len(str(told.value)) < 500


def test_a_trained_model_with_preprocessing_is_purified_and_saved(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    preprocessing = [L.Rescaling(1 / 255), L.RandomFlip(), L.Resizing(6, 6)]
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *preprocessing, L.Flatten(), L.Dense(5, "relu"), L.Dense(3)]
    )
    x = np.random.default_rng(0).uniform(0, 255, (60, 8, 8, 1)).astype(np.float32)
    y = (x[:, 2, 2, 0] > 128).astype(int)
    initial = model.get_weights()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=2, verbose=0)
    purified = flain.purify(model, initial=initial, data=(x, y)).model
    expected = purified.predict(x, verbose=0)
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"purified{suffix}"
        flain_keras.save(purified, path)
        close(flain_keras.load(path).predict(x, verbose=0), expected, 1e-6)


def test_keras_data_sets_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return x[4 * index : 4 * index + 4], y[4 * index : 4 * index + 4]

    forms = [Batches(), (keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y))]
    if ENGINE == "tensorflow":
        import tensorflow as tf

        tensor = type(tf.constant(0))
        monkeypatch.setattr(tensor, "cpu", lambda _: pytest.fail("TensorFlow warns of this"))
        single = tf.data.Dataset.from_tensor_slices((x, y))
        forms += [single, single.batch(4)]
        with pytest.raises(flain.DataError, match="without end"):
            Samples.of(single.repeat())
        with pytest.raises(flain.DataError, match="shuffle=False"):
            _ = Samples.of(single.shuffle(6, seed=1), memory_limit=0).x
    for data in forms:
        drawn = Samples.of(data, memory_limit=0)
        assert drawn.in_memory is isinstance(data, tuple)
        for samples in (Samples.of(data), drawn):
            np.testing.assert_array_equal(samples.x, x)
            np.testing.assert_array_equal(samples.y, y)
