"""The embedded example as a Keras model; test_keras.py runs it on each engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L

import flain_core as flain
import flain_keras
import flain_numpy
from flain_cli import example
from flain_core.auxiliary.samples import Samples
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


CHANNELS_LAST = np.arange(32 * 7 * 7).reshape(32, 7, 7).transpose(1, 2, 0).reshape(-1)
"""For each feature of a flattened image with channels last, its place with channels first."""


def embedded(which: Path) -> keras.Model:
    """The network of the embedded example, with channels last."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Conv2D(16, 3, padding="same", name="conv1"),
            L.MaxPooling2D(),
            L.ReLU(),
            L.Conv2D(32, 3, padding="same", name="conv2"),
            L.MaxPooling2D(),
            L.ReLU(),
            L.Flatten(),
            L.Dense(64, activation="relu", name="fc1"),
            L.Dense(10, name="fc2"),
        ]
    )
    arrays = np.load(which)
    weights = []
    for index in (0, 3, 7, 9):
        weight = arrays[f"{index}.weight"]
        if index == 7:
            weight = weight[:, CHANNELS_LAST]
        kernel = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
        weights += [kernel, arrays[f"{index}.bias"]]
    model.set_weights(weights)
    return model


def test_the_embedded_example_gives_what_numpy_gives() -> None:
    files = example.files()
    initial, final, auxiliary, _, triggered = files.paths
    samples, probe = Samples.of(auxiliary), Samples.of(triggered)
    settings = flain.Settings(thresholds=flain.Grid(start=0.0, step=0.01, stop=0.5))
    expected = flain.purify(
        final, initial=initial, data=auxiliary, probes={"ASR": triggered}, settings=settings
    )
    actual = flain.purify(
        embedded(final),
        initial=embedded(initial),
        data=(np.moveaxis(samples.x, 1, -1), samples.y),
        probes={"ASR": (np.moveaxis(probe.x, 1, -1), probe.y)},
        settings=settings,
    )
    ours, theirs = actual.layers[0], expected.layers[0]
    assert ours.method == "incremental"
    assert ours.threshold == theirs.threshold
    assert 0 < theirs.flipped.sum() < theirs.flipped.size
    np.testing.assert_array_equal(ours.flipped, theirs.flipped[CHANNELS_LAST])
    assert actual.after.probes["ASR"] == expected.after.probes["ASR"] < 0.1
    assert actual.after.clean == expected.after.clean
    mine = open_network(actual.model).layers()["fc1"].weight
    its = flain_numpy.open_network(expected.model).layers()["fc1"].weight[:, CHANNELS_LAST]
    assert np.abs(mine - its).max() <= 1e-5 * np.abs(its).max()


def test_purify_reads_and_writes_files(tmp_path: Path) -> None:
    initial, final, auxiliary, *_ = example.files().paths
    samples = Samples.of(auxiliary)
    np.savez(tmp_path / "aux.npz", x=np.moveaxis(samples.x, 1, -1)[:200], y=samples.y[:200])
    embedded(initial).save(tmp_path / "initial.keras")
    embedded(final).save(tmp_path / "final.keras")
    result = flain.purify(
        tmp_path / "final.keras",
        initial=tmp_path / "initial.keras",
        data=tmp_path / "aux.npz",
        settings=flain.Settings(thresholds=flain.Grid(start=0.0, step=0.05, stop=0.3)),
    )
    result.save(tmp_path / "purified.keras")
    assert flain_keras.load(tmp_path / "purified.keras").built
    shutil.rmtree(tmp_path)
