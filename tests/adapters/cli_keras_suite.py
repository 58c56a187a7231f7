"""The command on Keras files; test_cli_keras.py runs it once for every engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from typer.testing import CliRunner

import flain_core as flain
import flain_keras
from flain_cli.app import app

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]

CLASSES, FEATURES = 3, 8


def perceptron(*first: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            *first,
            L.Dense(9, activation="relu", name="fc1"),
            L.Dense(CLASSES, name="fc2"),
        ]
    )


def two_heads() -> keras.Model:
    x = keras.Input((FEATURES,))
    hidden = L.Dense(9, activation="relu", name="fc1")(x)
    return keras.Model(x, [L.Dense(2, name="side")(hidden), L.Dense(CLASSES, name="main")(hidden)])


def trained(model: keras.Model) -> keras.Model:
    """Other weights, and the last feature, silent in clean data, wired to the first class."""
    random = np.random.default_rng(1)
    model.set_weights([w + random.normal(0, 0.3, w.shape) for w in model.get_weights()])
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel[-1] = 9.0
    model.get_layer("fc1").set_weights([kernel, bias])
    return model


def samples(model: keras.Model, output: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Clean samples, labelled as the model reads them."""
    x = np.random.default_rng(0).random((200, FEATURES)).astype(np.float32)
    x[:, -1] = 0.0
    scores = model(x) if output is None else model(x)[output]
    return x, keras.ops.convert_to_numpy(scores).argmax(axis=1)


def saved(folder: Path, suffix: str, build: Any = perceptron, output: int | None = None) -> None:
    keras.utils.set_random_seed(0)
    build().save(folder / f"initial{suffix}")
    keras.utils.set_random_seed(0)
    final = trained(build())
    final.save(folder / f"final{suffix}")
    x, y = samples(final, output)
    np.savez(folder / "auxiliary.npz", x=x, y=y)


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def purify(folder: Path, suffix: str, *options: object) -> Any:
    files = (folder / f"initial{suffix}", "--data", folder / "auxiliary.npz")
    target = ("-o", folder / f"purified{suffix}", "--report", folder / "report.json")
    return invoke("purify", folder / f"final{suffix}", "--initial", *files, *target, *options)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_is_purified_into_another(tmp_path: Path, suffix: str) -> None:
    saved(tmp_path, suffix)
    ran = invoke("layers", tmp_path / f"final{suffix}")
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.output.splitlines()]
    assert ["fc1", "dense", "9", "×", "8", "1", "8"] in rows
    ran = purify(tmp_path, suffix, "--measure", "score", "--flip", "neurons")
    assert ran.exit_code == 0, ran.output
    told = json.loads((tmp_path / "report.json").read_text())
    assert FEATURES - 1 in told["layers"][0]["flipped"]
    assert "keras" in told["versions"]
    assert len(told["files"]) == 3
    models = {
        name: flain_keras.load(tmp_path / f"{name}{suffix}")
        for name in ("initial", "final", "purified")
    }
    initial, final, purified = (
        model.get_layer("fc1").get_weights()[0] for model in models.values()
    )
    flipped = told["layers"][0]["flipped"]
    rest = np.setdiff1d(np.arange(FEATURES), flipped)
    np.testing.assert_allclose(purified[flipped], 2 * initial[flipped] - final[flipped], 1e-5, 1e-6)
    np.testing.assert_array_equal(purified[rest], final[rest])


def test_the_scores_are_chosen_among_several_outputs(tmp_path: Path) -> None:
    saved(tmp_path, ".keras", two_heads, output=1)
    ran = purify(tmp_path, ".keras")
    assert isinstance(ran.exception, flain.ModelError)
    assert "2 outputs, 'side', 'main'" in str(ran.exception)
    assert "--scores" in str(ran.exception)
    ran = purify(tmp_path, ".keras", "--scores", "mian")
    assert "no output 'mian'" in str(ran.exception)
    assert not (tmp_path / "purified.keras").exists()
    ran = purify(tmp_path, ".keras", "--scores", "main", "--layer", "fc1")
    assert ran.exit_code == 0, ran.output
    assert isinstance(flain_keras.load(tmp_path / "purified.keras"), keras.Model)


def test_the_scores_are_chosen_for_the_initial_model_too(tmp_path: Path) -> None:
    saved(tmp_path, ".keras", two_heads, output=1)
    with np.load(tmp_path / "auxiliary.npz") as file:
        x, y = file["x"], file["y"]
    # Where the trained model does badly, the initial one is run as well.
    np.savez(tmp_path / "auxiliary.npz", x=x, y=(y + 1) % CLASSES)
    ran = purify(tmp_path, ".keras", "--scores", "main")
    assert ran.exit_code == 3, ran.exception
    assert "no better than chance" in " ".join(ran.output.split())


def with_lambda(path: Path) -> None:
    perceptron(L.Lambda(lambda x: x * 2, output_shape=(FEATURES,))).save(path)


def with_a_layer_of_its_own(path: Path) -> None:
    own = type("Own", (L.Dense,), {})
    perceptron(own(FEATURES)).save(path)


OWN = """
import keras

class Scaled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

BOTH = {"Scaled": Scaled}
"""


def test_a_class_of_ones_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_layers.py").write_text(OWN)
    namespace: dict[str, Any] = {}
    exec(OWN, namespace)
    saved(tmp_path, ".keras", lambda: perceptron(namespace["Scaled"]()))
    ran = purify(tmp_path, ".keras")
    assert isinstance(ran.exception, flain.ModelError)
    assert "--custom-objects module:Scaled" in str(ran.exception)
    for name in ("Scaled", "BOTH"):
        options = ("--custom-objects", f"own_layers:{name}", "--overwrite")
        ran = purify(tmp_path, ".keras", *options)
        assert ran.exit_code == 0, ran.exception
        ran = invoke("layers", tmp_path / "purified.keras", *options[:2])
        assert "fc1" in ran.output
    files = (tmp_path / "final.keras", tmp_path / "purified.keras")
    ran = invoke("compare", *files, *options[:2], "--data", tmp_path / "auxiliary.npz", "--json")
    assert ran.exit_code == 0, ran.exception
    told = json.loads(ran.stdout)
    changed = [each["name"] for each in told["differences"] if each["changed"]]
    assert changed
    assert all("fc1" in name for name in changed)
    for name, words in {
        "own_layers:Missing": "has no function or class 'Missing'",
        "no_such_module:It": "cannot import 'no_such_module'",
    }.items():
        ran = purify(tmp_path, ".keras", "--custom-objects", name, "--overwrite")
        assert isinstance(ran.exception, flain.ModelError)
        assert words in str(ran.exception)
    ran = purify(tmp_path, ".keras", "--custom-objects", "own_layers", "--overwrite")
    assert ran.exit_code == 2
    assert "expected module:name; got 'own_layers'" in " ".join(
        ran.output.replace("│", " ").split()
    )


def never_built(path: Path) -> None:
    keras.Sequential([L.Dense(4), L.Dense(CLASSES)]).save(path)


def cut_short(path: Path) -> None:
    perceptron().save(path)
    path.write_bytes(path.read_bytes()[:3000])


def of_another_shape(path: Path) -> None:
    keras.Sequential(
        [keras.Input((FEATURES,)), L.Dense(7, name="fc1"), L.Dense(CLASSES, name="fc2")]
    ).save(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (with_lambda, flain.ModelError, "Lambda layer in it brings Python code along"),
        (with_a_layer_of_its_own, flain.ModelError, "custom_objects={'Own': ...}"),
        (never_built, flain.ModelError, "never built, so it has no weights"),
        (cut_short, flain.WeightsError, "it is damaged"),
        (of_another_shape, flain.WeightsError, "of the same architecture"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    tmp_path: Path, suffix: str, spoil: Any, error: Any, words: str
) -> None:
    saved(tmp_path, suffix)
    for which in ("initial", "final"):
        good = (tmp_path / f"{which}{suffix}").read_bytes()
        spoil(tmp_path / f"{which}{suffix}")
        there = sorted(tmp_path.rglob("*"))
        ran = purify(tmp_path, suffix)
        assert isinstance(ran.exception, error), ran.exception
        assert words in str(ran.exception)
        assert sorted(tmp_path.rglob("*")) == there
        (tmp_path / f"{which}{suffix}").write_bytes(good)


def test_weights_alone_are_not_taken_for_a_model(tmp_path: Path) -> None:
    perceptron().save_weights(tmp_path / "model.weights.h5")
    ran = invoke("layers", tmp_path / "model.weights.h5")
    assert isinstance(ran.exception, flain.ModelError)
    assert "it holds weights alone" in str(ran.exception)


def test_a_saved_model_folder_is_refused(tmp_path: Path) -> None:
    if keras.backend.backend() == "torch":
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    else:
        model = perceptron()
        model(np.zeros((2, FEATURES), np.float32))
        model.export(tmp_path / "saved", verbose=False)
    ran = invoke("layers", tmp_path / "saved")
    assert isinstance(ran.exception, flain.ModelError)
    assert "SavedModel holds a computation without layers" in str(ran.exception)
