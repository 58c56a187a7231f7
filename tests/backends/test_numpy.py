"""Every layer of a NumPy network is cut, and the cut answers as the whole network does."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_networks import NETWORKS, close, image_network, numbers, opened

import flain_numpy as fn
from flain_core import network as protocols
from flain_core.errors import LayerError, ModelError, WeightsError
from flain_core.network import Array

LAYERS = [(name, layer) for name, (network, _) in NETWORKS.items() for layer in network.layers()]
every_layer = pytest.mark.parametrize(("name", "layer"), LAYERS)


def flipped(layer: protocols.Layer, initial: Array, neurons: Array) -> Array:
    """``2 · initial − final`` in the columns of ``neurons``, entry by entry."""
    out, columns = layer.weight.shape[:2]
    weight = layer.weight.copy()
    for row in range(out):
        first = row // (out // layer.groups) * columns
        for column in range(columns):
            if first + column in neurons:
                weight[row, column] = 2 * initial[row, column] - layer.weight[row, column]
    return weight


def bias_of(network: fn.Network, name: str) -> Array:
    """The bias of a layer, shaped to be added to its pre-activation."""
    stack: list[Any] = list(network.operations)
    while stack:
        operation = stack.pop()
        if isinstance(operation, fn.Residual):
            stack += [*operation.branch, *operation.shortcut]
        elif getattr(operation, "name", None) == name:
            bias = np.zeros(1, np.float32) if operation.bias is None else operation.bias
            return bias[:, None, None] if isinstance(operation, fn.Conv2d) else bias
    raise AssertionError(name)


def test_layers_are_described_canonically_and_in_order() -> None:
    layers = image_network().layers()
    names = ["first", "depthwise", "pointwise", "branch", "inner", "shortcut", "fc1", "fc2"]
    assert list(layers) == names
    assert [layers[name].kind for name in names] == ["conv"] * 6 + ["dense"] * 2
    assert [layers[name].neurons for name in names] == [3, 6, 12, 6, 8, 6, 32, 7]
    assert layers["inner"].groups == 4
    assert layers["fc1"].epsilon == 2.0**-23


def test_the_protocols_are_satisfied() -> None:
    network: protocols.Network = image_network()
    cut: protocols.Cut = network.cut("fc1", numbers(2, 3, 8, 8))
    assert isinstance(network, protocols.Network)
    assert isinstance(cut, protocols.Cut)
    assert network.native is network
    assert fn.open_network(network) is network


@every_layer
@pytest.mark.parametrize("samples", [1, 5])
def test_cut_describes_the_layer(name: str, layer: str, samples: int) -> None:
    network, x = opened(name, samples)
    cut, described = network.cut(layer, x), network.layers()[layer]
    assert cut.calls == 1
    assert cut.inputs.shape[:2] == (samples, described.neurons)
    everything = cut.linear(described.weight, np.arange(described.neurons)[::-1])
    assert close(everything + bias_of(network, layer), cut.output)
    assert everything.dtype == cut.output.dtype == np.float32


@every_layer
@pytest.mark.parametrize("samples", [1, 5])
def test_tail_continues_where_the_cut_stopped(name: str, layer: str, samples: int) -> None:
    network, x = opened(name, samples)
    cut, scores = network.cut(layer, x), network.predict(x)
    before = cut.output.copy()
    for _ in range(3):
        assert np.array_equal(cut.tail(cut.output), scores)
    moved = cut.output + np.float32(1)
    assert np.array_equal(cut.tail(moved), cut.tail(moved))
    assert np.array_equal(moved, before + np.float32(1))
    assert np.array_equal(cut.output, before)


@every_layer
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_flipping_in_the_cut_is_flipping_in_the_network(name: str, layer: str, seed: int) -> None:
    network, x = opened(name)
    described = network.layers()[layer]
    rng = np.random.default_rng(seed)
    initial = described.weight + rng.standard_normal(described.weight.shape).astype(np.float32)
    neurons = rng.permutation(described.neurons)[: rng.integers(1, described.neurons + 1)]
    truth = network.replace({layer: flipped(described, initial, neurons)}).predict(x)
    cut = network.cut(layer, x)
    answer = cut.tail(cut.output - cut.linear(2 * (described.weight - initial), neurons))
    assert np.abs(truth - network.predict(x)).max() > 1e-3
    assert close(answer, truth, 1e-4)


@every_layer
def test_contributions_add_up_in_any_order(name: str, layer: str) -> None:
    network, x = opened(name)
    cut, weight = network.cut(layer, x), network.layers()[layer].weight.astype(np.float64)
    count = network.layers()[layer].neurons
    one_by_one = [cut.linear(weight, np.array([neuron])) for neuron in range(count)]
    assert close(np.sum(one_by_one, axis=0), cut.linear(weight, np.arange(count)))
    nothing = cut.linear(weight, np.array([], dtype=int))
    assert nothing.shape == cut.output.shape
    assert not nothing.any()


def test_inputs_have_neurons_on_axis_1() -> None:
    network, x = opened("sequence")
    assert np.array_equal(network.cut("embed", x).inputs, x.transpose(0, 2, 1))
    network, x = opened("image")
    assert np.array_equal(network.cut("first", x).inputs, x)


def test_cut_at_the_last_layer_hands_out_scores_of_its_own() -> None:
    network, x = opened("image")
    cut = network.cut("fc2", x)
    moved = cut.output + np.float32(1)
    cut.tail(moved)[:] = 0
    assert np.array_equal(moved, cut.output + np.float32(1))


def test_a_change_of_the_batch_does_not_reach_the_cut() -> None:
    network, x = opened("image")
    cut, scores, before = network.cut("first", x), network.predict(x), x.copy()
    x[:] = 0
    assert np.array_equal(cut.inputs, before)
    assert np.array_equal(cut.tail(cut.output), scores)


def test_the_caller_cannot_change_what_a_cut_keeps() -> None:
    network, x = opened("image")
    cut = network.cut("fc1", x)
    for kept in (cut.inputs, cut.output):
        with pytest.raises(ValueError, match="read-only"):
            kept[:] = 0


def test_a_changed_update_is_never_answered_from_memory() -> None:
    network, x = opened("image")
    cut, update = network.cut("fc1", x), numbers(7, 32)
    first = cut.linear(update, np.arange(32))
    update *= 3
    assert close(cut.linear(update, np.arange(32)), 3 * first)


def test_a_layer_used_twice_is_counted_and_not_cut() -> None:
    shared = fn.Dense("shared", numbers(4, 4))
    network = fn.Network([shared, fn.ReLU(), shared, fn.Dense("out", numbers(3, 4))])
    x = numbers(5, 4)
    cut = network.cut("shared", x)
    assert list(network.layers()) == ["shared", "out"]
    assert cut.calls == 2
    entering = [x, np.maximum(shared(x), 0)]
    assert np.array_equal(cut.inputs, np.stack(entering, axis=2))
    with pytest.raises(LayerError, match="runs 2 times"):
        cut.tail(cut.output)
    with pytest.raises(LayerError, match="runs 2 times"):
        cut.linear(shared.weight, np.arange(4))
    other = numbers(4, 4, seed=1)
    expected = np.maximum(x @ other.T, 0) @ other.T @ numbers(3, 4).T
    assert close(network.replace({"shared": other}).predict(x), expected)


def test_positions_of_several_calls_are_stacked() -> None:
    shared = fn.Conv2d("shared", numbers(2, 2, 3, 3), padding=1)
    network = fn.Network([shared, fn.MaxPool2d(2), shared, fn.Flatten()])
    assert network.cut("shared", numbers(3, 2, 6, 4)).inputs.shape == (3, 2, 6 * 4 + 3 * 2)


def test_values_are_freed_after_their_last_reader() -> None:
    network, x = fn.Network([fn.ReLU()] * 30), np.ones((100, 1000), np.float32)
    tracemalloc.start()
    network.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_parameters_are_copied_and_read_only() -> None:
    weight, bias = numbers(3, 5), numbers(3)
    network = fn.Network([fn.Dense("fc", weight, bias)])
    x = numbers(2, 5)
    scores = network.predict(x)
    weight[:], bias[:] = 0, 0
    assert np.array_equal(network.predict(x), scores)
    with pytest.raises(ValueError, match="read-only"):
        network.layers()["fc"].weight[0, 0] = 1
    with pytest.raises(TypeError):
        network.layers()["fc"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("parameters", "samples", "computed"),
    [
        (np.float16, np.float32, np.float32),
        (np.float32, np.uint8, np.float32),
        (np.float32, np.float64, np.float32),
        (np.float64, np.float32, np.float64),
        (np.int64, np.int64, np.float32),
        (">f8", np.float32, np.float64),
    ],
)
def test_float_types(parameters: Any, samples: Any, computed: Any) -> None:
    weight = np.array([[1, 2, 3]]).astype(parameters)
    network = fn.Network([fn.Dense("fc", weight)])
    assert network.layers()["fc"].weight.dtype.isnative
    assert network.predict(np.ones((2, 3)).astype(samples)).dtype == computed
    cut = network.cut("fc", np.ones((2, 3)).astype(samples))
    assert cut.linear(np.ones((1, 3)), np.array([1])).dtype == cut.output.dtype == computed


def test_replace_leaves_the_original_alone() -> None:
    network, x = opened("image")
    scores = network.predict(x)
    weights = {"inner": numbers(8, 2, 3, 1, seed=5), "fc1": numbers(7, 32, seed=5)}
    other = network.replace(weights)
    assert np.array_equal(network.predict(x), scores)
    assert not close(other.predict(x), scores)
    for name, weight in weights.items():
        assert np.array_equal(other.layers()[name].weight, weight)
    back = other.replace({name: network.layers()[name].weight for name in weights})
    assert np.array_equal(back.predict(x), scores)


def test_open_network_gives_plain_weights_an_architecture() -> None:
    network, x = opened("sequence")
    weights = {name: layer.weight for name, layer in network.layers().items()}
    assert np.array_equal(fn.open_network(weights, like=network).predict(x), network.predict(x))
    del weights["up"]
    with pytest.raises(WeightsError, match="none is given for up"):
        fn.open_network(weights, like=network)
    with pytest.raises(ModelError, match="got dict"):
        fn.open_network(weights)
    with pytest.raises(ModelError, match="got str"):
        fn.open_network("network.npz", like=network)  # type: ignore[arg-type]


def test_a_network_that_was_pickled_is_the_same_one() -> None:
    network = image_network()
    arrived = pickle.loads(pickle.dumps(network))
    assert list(arrived.layers()) == list(network.layers())
    for name, layer in network.layers().items():
        assert np.array_equal(arrived.layers()[name].weight, layer.weight)
    _, x = opened("image")
    assert np.array_equal(arrived.predict(x), network.predict(x))
