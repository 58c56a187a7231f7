"""Cuts of Keras models on each engine; test_keras.py runs it once for every one of them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import keras
import keras_models as models
import numpy as np
import pytest
from keras import layers as L
from keras_cases import CASES, ENGINE, EVERY_CASE, Case, N, close, find, patched

import flain_core as flain
import flain_keras
from flain_core.network import Cut, Network
from flain_keras import open_network
from flain_keras._memory import key_of
from flain_keras._observation import Recording
from flain_keras._run import Runner, as_batch

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def every_layer() -> list[Any]:
    return [
        pytest.param(case, layer, id=f"{name}: {layer}")
        for name, case in CASES.items()
        for layer in case.layers
    ]


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


@EVERY_CASE
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
