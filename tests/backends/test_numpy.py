"""The NumPy network: every operation against PyTorch or by hand, the cut, and the files."""

from __future__ import annotations

import io
import json
import math
import pickle
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flain_numpy as fn
from flain_core import network as protocols
from flain_core.errors import LayerError, ModelError, OutputError, WeightsError
from flain_core.network import Array
from flain_numpy.erf import erf


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def close(one: Array, other: Array, tolerance: float = 2e-5) -> bool:
    scale = max(1.0, float(np.abs(other).max()))
    return one.shape == other.shape and bool(np.abs(one - other).max() <= tolerance * scale)


# Operations, by hand


def test_dense_by_hand() -> None:
    dense = fn.Dense("fc", np.array([[1, 2, 3], [4, 5, 6]]), np.array([10, 20]))
    assert dense(np.array([[1.0, 0.0, -1.0]])).tolist() == [[8.0, 18.0]]
    assert dense(np.ones((2, 4, 3))).tolist() == [[[16.0, 35.0]] * 4] * 2


def test_conv_by_hand() -> None:
    image = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    kernel = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    assert fn.Conv2d("c", kernel)(image).tolist() == [[[[-4.0, -4.0]]]]
    padded = fn.Conv2d("c", kernel, np.array([100.0]), padding=(0, 1))(image)
    assert padded.tolist() == [[[[96.0, 96.0, 96.0, 103.0]]]]


def test_depthwise_conv_keeps_channels_apart() -> None:
    x = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 10.0)])[None]
    conv = fn.Conv2d("c", np.array([2, 3, 5, 7]).reshape(4, 1, 1, 1), groups=2)
    assert conv(x)[0, :, 0, 0].tolist() == [2.0, 3.0, 50.0, 70.0]


def test_pooling_by_hand() -> None:
    x = -np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert fn.MaxPool2d(2)(x).tolist() == [[[[-1.0]]]]
    assert fn.MaxPool2d(3, 2, 1)(x).tolist() == [[[[-1.0, -2.0], [-4.0, -5.0]]]]
    assert fn.AvgPool2d((1, 3))(x).ravel().tolist() == [-2.0, -5.0, -8.0]
    assert fn.GlobalAvgPool2d()(x).tolist() == [[-5.0]]


def test_batch_norm_works_on_axis_1_of_any_rank() -> None:
    norm = fn.BatchNorm(np.array([1, 2]), np.array([3, 8]), np.array([2, 3]), np.array([0, 1]), 1.0)
    assert norm(np.array([[3.0, 5.0]])).tolist() == [[2.0, 4.0]]
    x = np.broadcast_to(np.array([3.0, 5.0])[:, None, None], (4, 2, 3, 5))
    assert norm(x)[2, :, 1, 4].tolist() == [2.0, 4.0]


def test_residual_adds_branch_and_shortcut() -> None:
    double, triple = (fn.Dense(name, np.eye(2) * by) for name, by in (("a", 2), ("b", 3)))
    x = np.array([[1.0, -1.0]])
    assert fn.Network([fn.Residual([double])]).predict(x).tolist() == [[3.0, -3.0]]
    assert fn.Network([fn.Residual([double], [triple])]).predict(x).tolist() == [[5.0, -5.0]]
    nested = fn.Residual([fn.ReLU(), fn.Residual([double])], [triple])
    assert fn.Network([nested, fn.ReLU()]).predict(x).tolist() == [[6.0, 0.0]]


def test_any_pure_function_is_an_operation() -> None:
    network = fn.Network([np.tanh, fn.Flatten()])
    assert close(network.predict(np.ones((2, 3))), np.full((2, 3), math.tanh(1)))


# Operations, against the framework that users know


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_exact_to_its_type(dtype: Any) -> None:
    x = np.concatenate([np.linspace(-7, 7, 40_001), [0.0, -0.0, 1e-30, -1e30, math.inf]])
    x = x.astype(dtype)
    truth = np.array([math.erf(each) for each in x.tolist()])
    assert erf(x).dtype == dtype
    assert np.abs(erf(x) - truth).max() < max(5e-11, np.finfo(dtype).eps / 1.5)
    assert np.isnan(erf(np.array([np.nan], dtype))).all()


def test_activations_match_torch() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.concatenate([numbers(7, 30) * 4, np.array([[-90.0, 90.0] * 15], np.float32)])
    for ours, theirs in (
        (fn.ReLU(), functional.relu),
        (fn.GELU(), functional.gelu),
        (fn.GELU(approximate=True), lambda t: functional.gelu(t, approximate="tanh")),
        (fn.Tanh(), torch.tanh),
        (fn.Sigmoid(), torch.sigmoid),
        (fn.Softmax(), lambda t: functional.softmax(t, 1)),
        (fn.Softmax(axis=0), lambda t: functional.softmax(t, 0)),
    ):
        assert ours(x).dtype == np.float32
        assert close(ours(x), theirs(torch.from_numpy(x)).numpy(), 1e-6), ours


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(data=st.data())
@settings(max_examples=60)
def test_conv_matches_torch(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    groups, per_group, out_per_group = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation = (
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3)
    )
    padding: Any = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)) | st.just("same"))
    if padding == "same":
        stride = (1, 1)
    samples = data.draw(st.sampled_from([0, 1, 5]))
    x = numbers(samples, groups * per_group, 8, 7)
    weight = numbers(groups * out_per_group, per_group, *kernel)
    bias = data.draw(st.sampled_from([None, numbers(len(weight))]))
    conv = fn.Conv2d(
        "c", weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x),
        torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        stride,
        padding,
        dilation,
        groups,
    ).numpy()
    assert conv(x).shape == expected.shape
    assert not samples or close(conv(x), expected)


def test_conv_in_chunks_of_samples_matches_torch() -> None:
    torch = pytest.importorskip("torch")
    x, weight = numbers(70, 3, 20, 20), numbers(5, 3, 3, 3)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight))
    assert close(fn.Conv2d("c", weight)(x), expected.numpy())


def test_same_padding_with_a_stride_leaves_a_position_per_stride() -> None:
    weight = np.ones((1, 1, 3, 3))
    output = fn.Conv2d("c", weight, padding="same", stride=2)(np.ones((1, 1, 6, 5)))
    # As in Keras: an even height is padded below only, an odd width on both sides.
    assert output[0, 0].tolist() == [[6.0, 9.0, 6.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]


@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
)
@settings(max_examples=40)
def test_pooling_matches_torch(
    size: tuple[int, int], stride: tuple[int, int] | None, padded: bool
) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    padding = (size[0] // 2, size[1] // 2) if padded else (0, 0)
    x = numbers(3, 2, 8, 7)
    t = torch.from_numpy(x)
    largest = functional.max_pool2d(t, size, stride, padding).numpy()
    assert np.array_equal(fn.MaxPool2d(size, stride, padding)(x), largest)
    mean = functional.avg_pool2d(t, size, stride, padding).numpy()
    assert close(fn.AvgPool2d(size, stride, padding)(x), mean, 1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3)])
def test_batch_norm_matches_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x, mean, scale, shift = numbers(*shape), numbers(4), numbers(4, seed=1), numbers(4, seed=2)
    variance = numbers(4, seed=3) ** 2 + 0.1
    t = [torch.from_numpy(each) for each in (x, mean, variance, scale, shift)]
    expected = torch.nn.functional.batch_norm(*t, eps=1e-3).numpy()
    assert close(fn.BatchNorm(mean, variance, scale, shift, epsilon=1e-3)(x), expected, 1e-6)
    plain = torch.nn.functional.batch_norm(*t[:3]).numpy()
    assert close(fn.BatchNorm(mean, variance)(x), plain, 1e-6)


# Networks to cut


def norm(channels: int) -> fn.BatchNorm:
    return fn.BatchNorm(
        numbers(channels), numbers(channels, seed=1) ** 2 + 0.5, numbers(channels, seed=2)
    )


def image_network() -> fn.Network:
    block = fn.Residual(
        [
            fn.Conv2d("branch", numbers(8, 6, 3, 3), numbers(8), padding=1, stride=2),
            norm(8),
            fn.ReLU(),
            fn.Residual([fn.Conv2d("inner", numbers(8, 2, 3, 1), groups=4, padding=(1, 0))]),
        ],
        shortcut=[fn.Conv2d("shortcut", numbers(8, 6, 1, 1), stride=2)],
    )
    return fn.Network(
        [
            fn.Conv2d("first", numbers(6, 3, 3, 3) / 5, numbers(6), padding="same"),
            fn.ReLU(),
            fn.Conv2d("depthwise", numbers(12, 1, 3, 3), numbers(12), padding=1, groups=6),
            fn.GELU(),
            fn.Conv2d("pointwise", numbers(6, 12, 1, 1) / 3),
            block,
            fn.ReLU(),
            fn.MaxPool2d(2),
            fn.Flatten(),
            fn.Dense("fc1", numbers(7, 32) / 10, numbers(7)),
            fn.Tanh(),
            fn.Dense("fc2", numbers(4, 7), numbers(4)),
        ]
    )


def sequence_network() -> fn.Network:
    return fn.Network(
        [
            fn.Dense("embed", numbers(9, 5), numbers(9)),
            fn.GELU(approximate=True),
            fn.Residual(
                [fn.Dense("up", numbers(11, 9)), fn.ReLU(), fn.Dense("down", numbers(9, 11))]
            ),
            fn.Flatten(),
            fn.Dense("head", numbers(3, 54), numbers(3)),
        ]
    )


NETWORKS = {
    "image": (image_network(), (3, 8, 8)),
    "sequence": (sequence_network(), (6, 5)),
}
LAYERS = [(name, layer) for name, (network, _) in NETWORKS.items() for layer in network.layers()]
every_layer = pytest.mark.parametrize(("name", "layer"), LAYERS)


def opened(name: str, samples: int = 5) -> tuple[fn.Network, Array]:
    network, shape = NETWORKS[name]
    return network, numbers(samples, *shape, seed=9)


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


def test_cut_refuses_what_does_not_fit() -> None:
    network, x = opened("image")
    cut = network.cut("fc1", x)
    with pytest.raises(WeightsError, match=r"expected shape \(7, 32\); got \(32, 7\)"):
        cut.linear(numbers(32, 7), np.array([0]))
    with pytest.raises(ModelError, match=r"expected shape \(5, 7\); got \(1, 7\)"):
        cut.tail(cut.output[:1])


def test_values_are_freed_after_their_last_reader() -> None:
    network, x = fn.Network([fn.ReLU()] * 30), np.ones((100, 1000), np.float32)
    tracemalloc.start()
    network.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


# Types, copies and refusals


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


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((3, 2)), r"expected real numbers of shape \(2, 3\); got float64 of shape"),
        (np.ones((2, 3), complex), "got complex128"),
        (np.array([[None] * 3] * 2), "got object"),
        (np.full((2, 3), np.nan), "finite in float16; got NaN"),
        (np.full((2, 3), -np.inf), "finite in float16; got NaN"),
        (np.full((2, 3), 1e6), "out of its range; convert the model to a wider type"),
    ],
)
def test_replace_refuses_bad_weights(weight: Array, message: str) -> None:
    network = fn.Network([fn.Dense("fc", np.ones((2, 3), np.float16))])
    with pytest.raises(WeightsError, match=message):
        network.replace({"fc": weight})


def test_unknown_layers_are_named_with_the_known_ones() -> None:
    network, x = opened("image")
    message = (
        "no dense .* called 'fc_1'; the model has 'first', .*, 'fc1', 'fc2'. Did you mean 'fc1'"
    )
    with pytest.raises(LayerError, match=message):
        network.cut("fc_1", x)
    with pytest.raises(LayerError, match=message):
        network.replace({"fc_1": np.ones(1)})
    with pytest.raises(LayerError, match="has no layer with a weight"):
        fn.Network([fn.ReLU()]).cut("fc", x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (numbers(2, 1, 8, 8), r"expected images \(n, 3, H, W\); got \(2, 1, 8, 8\)"),
        (numbers(2, 3, 64), r"Conv2d\('first', .* cannot run on 2×3×64"),
        (numbers(2, 3, 9, 12), r"expected \(n, ..., 32\); got \(2, 48\)"),
        (
            numbers(2, 3, 1, 1),
            "expected images of at least 2 pixels with their padding along axis 2; got 1",
        ),
        ((numbers(2, 3, 8, 8),), "got tuple"),
        (np.array(["cat"]), "got <U3"),
        (np.array(1.0), r"got float64 \(\)"),
    ],
)
def test_wrong_samples_are_refused(x: Any, message: str) -> None:
    network = image_network()
    with pytest.raises(ModelError, match=message):
        network.predict(x)
    with pytest.raises(ModelError, match=message):
        network.cut("fc1", x)


def test_operations_never_broadcast_by_accident() -> None:
    wide = fn.Residual([fn.Dense("fc", numbers(3, 1))])
    with pytest.raises(ModelError, match="expected branch and shortcut of one shape"):
        fn.Network([wide]).predict(numbers(2, 1))
    with pytest.raises(ModelError, match=r"expected \(n, 3, ...\); got \(2, 1\)"):
        fn.Network([norm(3)]).predict(numbers(2, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fn.Dense("", numbers(2, 3)), "name of a layer"),
        (lambda: fn.Dense("fc", numbers(2, 3, 1)), r"expected \(out, in\); got shape"),
        (lambda: fn.Dense("fc", numbers(0, 3)), r"expected \(out, in\); got shape"),
        (lambda: fn.Dense("fc", numbers(2, 3), numbers(3)), r"expected shape \(2,\)"),
        (lambda: fn.Dense("fc", np.array([["a"]])), "got one of <U1"),
        (lambda: fn.Dense("fc", [[1], [2, 3]]), "got list"),  # type: ignore[arg-type]
        (lambda: fn.Conv2d("c", numbers(2, 3)), "expected .* kh, kw"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), groups=3), "divisor of its 4 output"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), stride=0), "stride: expected an integer of"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), padding=-1), "padding: expected an integer"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), padding="full"), "got 'full'"),  # type: ignore[arg-type]
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), dilation=(1, 2, 3)), "dilation"),  # type: ignore[arg-type]
        (lambda: fn.MaxPool2d(0), "size: expected an integer of at least 1"),
        (lambda: fn.AvgPool2d(2, padding=2), "at most half the window"),
        (lambda: fn.BatchNorm(numbers(2), numbers(3)), r"variance .* expected shape \(2,\)"),
        (lambda: fn.BatchNorm(numbers(2), numbers(2), epsilon=-1), "epsilon"),
        (lambda: fn.Network([fn.Dense("a", numbers(2, 3)), "relu"]), "got 'relu'"),  # type: ignore[list-item]
        (
            lambda: fn.Network([fn.Dense("a", numbers(2, 3)), fn.Dense("a", numbers(4, 2))]),
            "two different layers are named 'a'",
        ),
    ],
)
def test_networks_that_make_no_sense_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()


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


# Files


@pytest.mark.parametrize("name", NETWORKS)
def test_files_keep_everything(name: str, tmp_path: Path) -> None:
    network, x = opened(name)
    fn.save(network, tmp_path / "network.npz")
    again = fn.load(tmp_path / "network.npz")
    assert np.array_equal(again.predict(x), network.predict(x))
    assert list(again.layers()) == list(network.layers())
    for one, other in zip(again.layers().values(), network.layers().values(), strict=True):
        assert (one.kind, one.groups, one.weight.dtype) == (
            other.kind,
            other.groups,
            other.weight.dtype,
        )
        assert one.weight.tobytes() == other.weight.tobytes()
    fn.save(again, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "network.npz").read_bytes()


def test_files_keep_float_types_sharing_and_every_operation(tmp_path: Path) -> None:
    shared = fn.Conv2d("shared", numbers(2, 2, 1, 1).astype(np.float64))
    operations: list[Any] = [
        shared,
        fn.Residual([shared, fn.Sigmoid()]),
        fn.AvgPool2d((1, 2), padding=(0, 1)),
        fn.MaxPool2d(2, stride=1),
        norm(2),
        fn.GlobalAvgPool2d(),
        fn.GELU(approximate=True),
        fn.Dense("half", numbers(3, 2).astype(np.float16), numbers(3).astype(np.float16)),
        fn.Softmax(axis=1),
    ]
    network, x = fn.Network(operations), numbers(4, 2, 5, 6)
    fn.save(network, tmp_path / "network.npz")
    again = fn.load(tmp_path / "network.npz")
    assert np.array_equal(again.predict(x), network.predict(x))
    assert again.cut("shared", x).calls == 2
    assert again.layers()["half"].weight.dtype == np.float16


def test_save_refuses_foreign_operations_and_files_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot save .*tanh"):
        fn.save(fn.Network([np.tanh]), tmp_path / "network.npz")
    assert not list(tmp_path.iterdir())
    network = sequence_network()
    fn.save(network, tmp_path / "network.npz")
    with pytest.raises(OutputError, match="exists already"):
        fn.save(network, tmp_path / "network.npz")
    fn.save(network, tmp_path / "network.npz", overwrite=True)


def described(**changes: Any) -> dict[str, Any]:
    dense = {"operation": "Dense", "name": "fc", "weight": {"array": "w"}, "bias": None}
    return {
        "format": "flain_numpy.Network",
        "version": 1,
        "program": [0],
        "operations": [dense],
    } | changes


def written(path: Path, description: Any, **arrays: Any) -> Path:
    entry = description if isinstance(description, np.ndarray) else json.dumps(description)
    np.savez(path, **{"network": np.asarray(entry), "w": numbers(2, 3)} | arrays)
    return path


def dense_with(**fields: Any) -> dict[str, Any]:
    return described(operations=[described()["operations"][0] | fields])


def deeply_nested() -> Array:
    deep = '{"branch": [' * 100_000
    return np.array('{"format": "flain_numpy.Network", "version": 1, "program": [' + deep)


@pytest.mark.parametrize(
    "description",
    [
        described(version=2),
        described(format="somebody.else"),
        described(program=[1]),
        described(program=["0"]),
        described(program=None),
        described(program=[{"branch": [0]}]),
        described(operations=None),
        described(operations=[3]),
        described(operations=[{"name": "fc"}]),
        dense_with(operation="System"),
        dense_with(operation=["Dense"]),
        dense_with(operation="ReLU"),
        dense_with(name=3),
        dense_with(extra=3),
        dense_with(weight={"array": "missing"}),
        dense_with(weight=None),
        dense_with(weight="w"),
        dense_with(bias=2.5),
        dense_with(bias={"array": "network"}),
        [],
        {},
        3,
        np.array("{"),
        np.array(3.5),
        np.array(["{}", "{}"]),
        deeply_nested(),
    ],
)
def test_bad_descriptions_are_refused(description: Any, tmp_path: Path) -> None:
    written(tmp_path / "good.npz", described())
    assert fn.load(tmp_path / "good.npz").layers()["fc"].neurons == 3
    with pytest.raises(WeightsError, match=r"bad.npz: expected .* version 1; found") as caught:
        fn.load(written(tmp_path / "bad.npz", description))
    assert caught.value.__cause__ is not None


def test_files_that_would_need_unpickling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="allow_pickle"):
        fn.load(written(tmp_path / "bad.npz", described(), w=np.array([[print]])))
    with pytest.raises(WeightsError, match="allow_pickle"):
        fn.load(written(tmp_path / "worse.npz", np.array([print])))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("network", "text")
        file.writestr("w.npy", b"\x93NUMPY\x01\x00\x04\x00((((")
    array = io.BytesIO()
    np.save(array, numbers(2, 3))
    for content in (b"", b"PK", b"text", array.getvalue(), archive.getvalue()):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot read"):
            fn.load(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        fn.load(tmp_path / "missing.npz")
    with pytest.raises(WeightsError, match="there is no such file"):
        fn.load(tmp_path)


@given(data=st.data())
@settings(max_examples=100)
def test_damaged_files_never_load_as_something_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    network = fn.Network([fn.Dense("fc", numbers(2, 3)), fn.ReLU()])
    path = tmp_path_factory.mktemp("damaged") / "network.npz"
    fn.save(network, path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(WeightsError):
        again = fn.load(path)
        assert np.array_equal(again.layers()["fc"].weight, network.layers()["fc"].weight)


def test_a_network_that_was_pickled_is_the_same_one() -> None:
    network = image_network()
    arrived = pickle.loads(pickle.dumps(network))
    assert list(arrived.layers()) == list(network.layers())
    for name, layer in network.layers().items():
        assert np.array_equal(arrived.layers()[name].weight, layer.weight)
    _, x = opened("image")
    assert np.array_equal(arrived.predict(x), network.predict(x))
