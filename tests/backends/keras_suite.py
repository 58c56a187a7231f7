"""What holds for Keras models on each engine; test_keras.py runs it once for every one of them."""

from __future__ import annotations

import gc
import os
import shutil
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_models as models
import numpy as np
import outputs_alike
import pytest
from keras import layers as L

import flain_core as flain
import flain_keras
import flain_numpy
from flain_cli import example
from flain_core.auxiliary.samples import Samples
from flain_core.backend_kit import AS_TRAINED
from flain_core.network import Cut, Network
from flain_core.opening import registry
from flain_keras import open_network
from flain_keras._memory import key_of
from flain_keras._observation import Recording
from flain_keras._run import Runner, as_batch

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]

N = 5
ENGINE = keras.backend.backend()
assert os.environ["KERAS_BACKEND"] == ENGINE


@dataclass(frozen=True)
class Case:
    build: Callable[[], keras.Model]
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    integers: bool = False
    traced: bool = True

    def batch(self, n: int = N) -> np.ndarray:
        random = np.random.default_rng(n)
        if self.integers:
            return random.integers(1, 20, (n, *self.shape))
        return random.standard_normal((n, *self.shape)).astype(np.float32)

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(3)
        model = self.build()
        random = np.random.default_rng(3)
        model.set_weights(
            [w + 0.1 * np.abs(random.standard_normal(w.shape)) for w in model.get_weights()]
        )
        return model


CASES = {
    "cnn": Case(models.cnn, (8, 8, 3), ("conv1", "conv2", "fc1", "fc2")),
    "residual": Case(models.residual, (8,), ("first", "side", "block", "wide", "head")),
    "nested": Case(models.nested, (8,), ("inner/a", "inner/b", "other/c", "head")),
    "sequence": Case(models.sequence, (5,), ("mix", "step", "head"), integers=True),
    "signal": Case(models.signal, (12, 4), ("causal", "depth", "grouped", "up", "head")),
    "image": Case(models.image, (7, 6, 3), ("depth", "up", "head")),
    "volume": Case(models.volume, (4, 5, 3, 2), ("conv", "up", "head")),
    "decides": Case(models.decides, (8,), ("dense",), traced=False),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def every_layer() -> list[Any]:
    return [
        pytest.param(case, layer, id=f"{name}: {layer}")
        for name, case in CASES.items()
        for layer in case.layers
    ]


def find(network: Network, name: str) -> str:
    """Keras numbers the layers of subclassed models through the whole process."""
    return (
        next(each for each in network.layers() if each.split("/")[-1].startswith(name))
        if (name not in network.layers())
        else name
    )


def close(actual: Any, expected: Any, tolerance: float = 2e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def patched(model: keras.Model) -> list[str]:
    return [layer.name for layer in model._flatten_layers() if "call" in vars(layer)]


@pytest.mark.parametrize(("case", "name"), every_layer())
@pytest.mark.parametrize("n", [N, 1])
def test_a_cut_answers_as_the_whole_network_does(case: Case, name: str, n: int) -> None:
    network = open_network(case.model())
    name = find(network, name)
    x = case.batch(n)
    layer, cut, scores = network.layers()[name], network.cut(name, x), network.predict(x)
    random = np.random.default_rng(0)
    update = random.standard_normal(layer.weight.shape).astype(np.float32)
    some = random.permutation(layer.neurons)[: (layer.neurons + 1) // 2]

    assert isinstance(network, Network)
    assert isinstance(cut, Cut)
    assert cut.calls == 1
    assert cut.inputs.shape[:2] == (n, layer.neurons)
    before = cut.output.copy()
    everything = np.arange(layer.neurons)
    native = dict(
        zip(network._entries, flain_keras._network.catalogue(network.native).values(), strict=False)
    )
    bias = native[name].layer.bias
    own = 0 if bias is None else keras.ops.convert_to_numpy(bias)
    close(cut.linear(layer.weight, everything) + own, before)
    parts = cut.linear(layer.weight, some) + cut.linear(
        layer.weight, np.setdiff1d(everything, some)
    )
    close(parts + own, before)
    assert not np.any(cut.linear(layer.weight, some[:0]))

    candidate = before - cut.linear(2 * update, some)
    answers = [cut.tail(candidate) for _ in range(4)]
    assert (cut._tail._traced is not None) is case.traced
    # A search keeps many cuts, and must not keep all samples by that.
    assert (cut._tail._x is None) is case.traced
    assert case.traced or cut.bytes_beside > 0
    for answer in answers[1:]:
        close(answer, answers[0], 1e-6)
    close(cut.tail(cut.output), scores, 1e-6)

    mask = flain.flipping.columns(some, layer.weight.shape, layer.groups)
    replaced = network.replace({name: layer.weight - 2 * update * mask})
    actual = replaced.predict(x)
    assert np.abs(actual - scores).max() > 1e-3
    close(answers[0], actual)
    close(network.predict(x), scores, 0)
    assert np.array_equal(cut.output, before)
    close(open_network(replaced.native).predict(x), actual, 1e-6)
    assert not patched(network._model)


def check_batch(network: Network, name: str, x: np.ndarray) -> None:
    """The cut's answers against really changed models, one by one and together."""
    layer, cut = network.layers()[name], network.cut(name, x)
    some = np.arange(layer.neurons)[::2]
    update = np.random.default_rng(1).standard_normal(layer.weight.shape).astype(np.float32)
    mask = flain.flipping.columns(some, layer.weight.shape, layer.groups)
    moved = cut.output - cut.linear(update, some)
    truth = network.replace({name: layer.weight - update * mask}).predict(x)
    close(cut.tail(cut.output), network.predict(x))
    close(cut.tail(moved), truth)
    if cut.tails is not None:
        several = cut.tails([moved, cut.output, moved])
        for scores, expected in zip(several, (truth, network.predict(x), truth), strict=True):
            close(scores, expected)


def test_what_one_batch_taught_goes_for_the_others(case: Case) -> None:
    network = open_network(case.model())
    name = find(network, case.layers[0])
    random = np.random.default_rng(0)
    for _ in range(6):
        x = case.batch(N)
        x = random.permutation(x) if case.integers else x * random.uniform(0.5, 2)
        check_batch(network, name, x.astype(case.batch().dtype))
    x, _ = as_batch(case.batch())
    learned = network._memory.get(key_of(name, x))
    assert (learned is not None) is case.traced
    if learned is not None:
        assert (learned.head is not None) is (ENGINE != "torch")
        assert (learned.traced.together is not None) is (ENGINE != "torch")
    assert not patched(network._model)


def _rounds() -> bool:
    """Whether the engine may round factors to 10 bits on a device."""
    if ENGINE == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "highest"
    if ENGINE == "torch":
        import torch

        return torch.backends.cudnn.allow_tf32
    import tensorflow

    return tensorflow.config.experimental.tensor_float_32_execution_enabled()


def test_on_an_accelerator_everything_runs_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    inner = Runner.run

    def run(self: Runner, *args: Any) -> Any:
        seen.append(_rounds())
        return inner(self, *args)

    monkeypatch.setattr(Runner, "run", run)
    case = CASES["residual"]

    def use() -> None:
        network = open_network(case.model())
        name = find(network, case.layers[0])
        network.predict(case.batch())
        for _ in range(5):
            cut = network.cut(name, case.batch())
            cut.tail(cut.output)
        assert not patched(network._model)

    use()
    assert seen
    assert all(seen)
    seen.clear()
    monkeypatch.setattr("flain_keras._engine._has_accelerator", lambda engine: True)
    use()
    assert seen
    assert not any(seen)
    assert _rounds()


def test_only_a_cut_that_is_asked_for_its_tail_traces_it() -> None:
    network = open_network(models.beside(decides=False))
    x = np.ones((N, 8), np.float32)
    cut = network.cut("head", x)
    assert cut.inputs.shape[0] == len(x)
    assert cut.output.shape[0] == len(x)
    assert not network._memory
    assert cut.bytes_beside >= 0
    assert len(network._memory) == 1


def test_a_network_that_learned_from_a_batch_holds_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = []

    class Watched(Recording):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            recorded.append(weakref.ref(self))

    monkeypatch.setattr("flain_keras._observation.Recording", Watched)
    network = open_network(models.beside(decides=False))
    cut = network.cut("head", np.ones((N, 8), np.float32))
    assert (cut.tails is not None) is (ENGINE != "torch")
    assert len(recorded) == 1
    gc.collect()
    assert recorded[0]() is None


def test_what_scores_several_wrongly_is_never_given_away() -> None:
    """While it is compared, another thread may ask for it."""
    network = open_network(models.beside(decides=False))
    x = np.ones((N, 8), np.float32)
    first, second = (network.cut("head", x) for _ in range(2))
    traced = first._tail._traced
    asked = []

    def wrong(stacked: Any, *_: Any) -> Any:
        if not asked:
            asked.append(None)
            asked.append(second.tails)
        return stacked[:, :1]

    traced.together, traced.compared = wrong, False
    assert first.tails is None
    assert asked == [None, None]


@pytest.mark.parametrize("decides", [False, True])
def test_what_is_used_beside_a_layer_is_that_of_the_batch(decides: bool) -> None:
    network = open_network(models.beside(decides))
    random = np.random.default_rng(0)
    for shift in (1, -1, 1, -1, 1, -1, -1, 1):
        x = random.standard_normal((N, 8)).astype(np.float32) + shift
        for name in ("middle", "head"):
            check_batch(network, name, x)


@pytest.mark.parametrize("first", [models.Leaves, models.Tells])
def test_what_a_layer_knows_beside_its_tensors_is_that_of_the_batch(first: type[L.Layer]) -> None:
    network = open_network(models.aside(first))
    random = np.random.default_rng(0)
    for shift in range(7):
        x = random.standard_normal((N, 8)).astype(np.float32) + shift
        for name in ("middle", "head"):
            check_batch(network, name, x)


@pytest.mark.parametrize("inside", [False, True])
def test_a_mask_is_that_of_the_batch(inside: bool) -> None:
    network = open_network(models.masked(inside))
    random = np.random.default_rng(0)
    learned = set()
    for _ in range(7):
        x = random.integers(1, 20, (N, 5))
        x[np.arange(5) >= random.integers(1, 6, (N, 1))] = 0
        check_batch(network, "middle", x)
        learned.add(network._memory.get(key_of("middle", as_batch(x)[0])))
    assert len(learned) == 1
    assert None not in learned


def test_inputs_by_name_are_not_taken_for_inputs_in_order() -> None:
    late, early = keras.Input((8,), name="late"), keras.Input((8,), name="early")
    h = L.Dense(5, activation="relu", name="middle")(late)
    network = open_network(keras.Model([late, early], L.Dense(3)(h) * L.Dense(3)(early)))
    random = np.random.default_rng(0)
    for by_name in (False,) * 5 + (True,) * 2:
        x, y = random.standard_normal((2, N, 8)).astype(np.float32)
        check_batch(network, "middle", {"late": x, "early": y} if by_name else (x, y))


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


def test_a_deep_model_is_copied() -> None:
    x = h = keras.Input((4,))
    for _ in range(120):
        h = L.Activation("tanh")(h)
    network = open_network(keras.Model(x, L.Dense(3, name="head")(h)))
    assert list(network.layers()) == ["head"]


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


def test_a_shared_layer_runs_twice_and_is_purified_by_the_whole_network() -> None:
    model = models.shared()
    network = open_network(model)
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    cut = network.cut("twice", x)
    assert cut.calls == 2
    assert cut.inputs.shape == (40, 6, 2)
    with pytest.raises(flain.LayerError, match="2 times"):
        cut.tail(x)
    initial = models.shared()
    y = network.predict(x).argmax(1)
    result = flain.purify(model, initial=initial, data=(x, y), layers="twice")
    assert result.layers[0].method == "whole network"
    assert "2 times" in result.layers[0].why_method or "several" in result.layers[0].why_method


def test_weights_go_into_layers_and_come_back_in_their_layout() -> None:
    for case in CASES.values():
        network = open_network(case.model())
        for name, layer in network.layers().items():
            new = np.arange(layer.weight.size, dtype=np.float32).reshape(layer.weight.shape)
            replaced = network.replace({name: new})
            np.testing.assert_array_equal(replaced.layers()[name].weight, new)
            np.testing.assert_array_equal(
                open_network(replaced.native, like=network).layers()[name].weight, new
            )
            assert not replaced.layers()[name].weight.flags.writeable
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    conv = keras.Sequential([keras.Input((9, 9, 4)), L.Conv2D(5, (2, 3), name="conv")])
    conv.set_weights([kernel, np.zeros(5)])
    np.testing.assert_array_equal(
        open_network(conv).layers()["conv"].weight, kernel.transpose(3, 2, 0, 1)
    )
    up = keras.Sequential([keras.Input((9, 9, 5)), L.Conv2DTranspose(4, (2, 3), name="up")])
    up.set_weights([kernel, np.zeros(4)])
    np.testing.assert_array_equal(
        open_network(up).layers()["up"].weight, kernel.transpose(2, 3, 0, 1)
    )


def test_a_wrong_weight_is_refused() -> None:
    network = open_network(CASES["cnn"].model())
    with pytest.raises(flain.WeightsError, match=r"shape \(4, 7\); got float64 of shape \(7, 4\)"):
        network.replace({"fc2": np.ones((7, 4))})
    with pytest.raises(flain.WeightsError, match=r"finite in float32; got NaN, infinity or"):
        network.replace({"fc2": np.full((4, 7), 1e300)})
    for narrow, large in (("float16", 1e5), ("bfloat16", 1e300)):
        half = keras.Sequential([keras.Input((3,)), L.Dense(2, dtype=narrow, name="half")])
        with pytest.raises(flain.WeightsError, match=f"'half'.*finite in {narrow}; got NaN"):
            open_network(half).replace({"half": np.full((2, 3), large)})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_a_bias_is_rounded_to_the_type_of_its_variable(dtype: str) -> None:
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(2, dtype=dtype, name="narrow"), L.Dense(3)]
    )
    network = open_network(model)
    given = np.array([0.1, 0.7])
    changed = network.replace({}, {"narrow": given})
    variable = model.get_layer("narrow").bias
    rounded = keras.ops.cast(keras.ops.convert_to_tensor(given, "float32"), variable.dtype)
    stored = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
    stored = stored.astype(np.float16 if variable.dtype == "float16" else np.float32)
    np.testing.assert_array_equal(changed.layers()["narrow"].bias, stored)
    np.testing.assert_array_equal(open_network(changed.native).layers()["narrow"].bias, stored)
    x = np.ones((4, 3), np.float32)
    moved = changed.cut("narrow", x).output - network.cut("narrow", x).output
    close(moved, np.broadcast_to(given - network.layers()["narrow"].bias, (4, 2)), 2e-2)
    with pytest.raises(flain.WeightsError, match=r"bias of 'narrow'.*finite in"):
        network.replace({}, {"narrow": np.full(2, 1e300)})


def test_a_bias_that_is_absent_shared_or_of_more_axes_is_not_shown() -> None:
    inputs = keras.Input((5, 6))
    deep = L.EinsumDense("abc,cd->abd", (5, 4), bias_axes="bd", name="deep")
    flat = L.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d", name="flat")
    plain = L.Dense(4, use_bias=False, name="plain")
    lent = L.Dense(7, name="lent")
    hidden = lent(plain(flat(deep(inputs))))
    model = keras.Model(inputs, Borrowed(lent)(hidden))
    layers = open_network(model).layers()
    assert [name for name, layer in layers.items() if layer.bias is not None] == ["flat"]
    with pytest.raises(flain.WeightsError, match="bias of 'deep': the layer shows none"):
        open_network(model).replace({}, {"deep": np.zeros(4)})


def test_layers_that_cannot_be_purified_say_why() -> None:
    network = open_network(CASES["image"].model())
    with pytest.raises(flain.LayerError, match="two kernels"):
        network.cut("separable", CASES["image"].batch())
    with pytest.raises(flain.LayerError, match="equation"):
        open_network(models.sequence()).replace({"attention/query": np.ones((2, 2))})
    with pytest.raises(flain.LayerError, match="Did you mean 'head'"):
        network.replace({"heed": np.ones((2, 2))})
    low_rank = keras.Sequential([keras.Input((6,)), L.Dense(4, name="low"), L.Dense(3)])
    low_rank.get_layer("low").enable_lora(2)
    with pytest.raises(flain.LayerError, match="LoRA"):
        open_network(low_rank).replace({"low": np.ones((4, 6))})
    own = type("Own", (L.Dense,), {"call": lambda self, x: L.Dense.call(self, x) ** 2})
    with pytest.raises(flain.LayerError, match="call method of its own"):
        open_network(keras.Sequential([keras.Input((6,)), own(4, name="own")])).replace(
            {"own": np.ones((4, 6))}
        )
    with pytest.raises(flain.LayerError, match="quantized"):
        open_network(quantized()).replace({"q": np.ones((4, 6))})


def quantized() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="q"), L.Dense(3, name="head")])
    model.quantize("int8")
    return model


class Transposed(L.Layer):
    """Multiplies by the transposed kernel of another layer."""

    def __init__(self, other: L.Layer) -> None:
        super().__init__()
        self.theirs = other.kernel

    def call(self, x: Any) -> Any:
        return x @ keras.ops.transpose(self.theirs)


class Borrowed(L.Layer):
    def __init__(self, lender: L.Layer) -> None:
        super().__init__()
        self.bias = lender.bias

    def call(self, x: Any) -> Any:
        return x * self.bias


def tied() -> keras.Model:
    x, dense = keras.Input((6,)), L.Dense(4, name="tied")
    h = dense(x)
    return keras.Model(x, Transposed(dense)(h))


def test_refused_layers_are_named_with_the_reasons() -> None:
    image = CASES["image"].model()
    network = open_network(image)
    assert list(network.refused_layers()) == ["separable"]
    x = CASES["image"].batch(20)
    result = flain.purify(
        image,
        initial=models.image(),
        data=(x, network.predict(x).argmax(1)),
        layers="all",
        settings=flain.Settings(statistic="mean_abs", tolerance=0.2),
    )
    assert [layer.name for layer in result.layers] == ["depth", "up", "head"]
    expected = "'separable' was left out, as it cannot be purified: a separable convolution has two"
    assert any(note.startswith(expected) for note in result.notes)

    data = np.ones((2, 6), np.float32), np.array([0, 1])
    for build, names, why in (
        (quantized, ["q", "head"], "quantized"),
        (tied, ["tied"], "same ker"),
    ):
        reasons = open_network(build()).refused_layers()
        assert list(reasons) == names
        assert all(why in reason for reason in reasons.values())
        every = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items())
        for layers in ("all", "auto", names[0]):
            with pytest.raises(flain.LayerError) as caught:
                flain.purify(build(), initial=build(), data=data, layers=layers)
            assert str(caught.value) == f"no layer of the model can be purified: {every}"
    assert open_network(CASES["residual"].model()).refused_layers() == {}


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


def test_several_inputs_go_in_as_a_tuple_or_by_name() -> None:
    network = open_network(models.several_inputs())
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((4, k)).astype(np.float32) for k in (8, 3))
    scores = network.predict((a, b))
    close(network.predict({"a": a, "b": b}), scores, 1e-6)
    cut = network.cut("left", {"a": a, "b": b})
    for _ in range(3):
        close(cut.tail(cut.output), scores, 1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision(policy: str) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(9, activation="relu", name="fc1", dtype=policy),
            L.Dense(4, name="fc2", dtype=policy),
        ]
    )
    network = open_network(model)
    layer = network.layers()["fc1"]
    assert layer.weight.dtype == np.float32
    assert layer.epsilon == (2**-10 if "16" in policy and "bf" not in policy else 2**-7)
    x = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    scores = network.predict(x)
    assert scores.dtype == np.float32
    cut = network.cut("fc1", x)
    assert cut.output.dtype == np.float32
    half = np.array([0, 3, 4])
    weight = layer.weight.copy()
    weight[:, half] -= 1
    change = layer.weight - weight
    truth = network.replace({"fc1": weight}).predict(x)
    for _ in range(3):
        close(cut.tail(cut.output), scores, 1e-6)
        close(cut.tail(cut.output - cut.linear(change, half)), truth, 32 * layer.epsilon)


def test_names_of_the_final_model_are_taken_over() -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((6,)), L.Dense(5), L.Dense(3)])

    final, initial = build(), build()
    assert list(open_network(final).layers()) != list(open_network(initial).layers())
    assert list(open_network(initial, like=final).layers()) == [each.name for each in final.layers]
    other = keras.Sequential([keras.Input((6,)), L.Dense(5, name="a"), L.Dense(4, name="b")])
    assert list(open_network(other, like=final).layers()) == ["a", "b"]


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


def test_a_keras_model_is_opened_by_this_backend_on_every_engine() -> None:
    for case in CASES.values():
        assert isinstance(registry.open_network(case.model()), flain_keras.KerasNetwork)
    assert "keras" in registry.versions(models.shared())


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


CHANNELS_LAST = np.arange(32 * 7 * 7).reshape(32, 7, 7).transpose(1, 2, 0).reshape(-1)
"""For each feature of a flattened image with channels last, its place with channels first."""


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
