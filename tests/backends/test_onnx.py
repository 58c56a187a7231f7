"""ONNX graphs: every layer's cut against the whole model, odd graphs, refusals, and the files."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models as models
import pytest
from by_neurons import BY_NEURONS
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
from onnx_models import node, numbers, tensors, value

import flain_core as flain
import flain_numpy
from flain_core.backend_kit import AS_TRAINED
from flain_core.errors import LayerError, ModelError, OutputError, WeightsError
from flain_core.network import Cut, Network
from flain_core.opening.registry import open_network as open_anything
from flain_core.reporting.input_grid import InputGrid, find_grid
from flain_onnx import OnnxModel, load, open_network, save

N = 7
EXAMPLE = Path(flain_numpy.__file__).parents[2] / "adapters" / "flain_cli" / "data"


@dataclass(frozen=True)
class Case:
    build: Callable[[], ModelProto]
    shape: tuple[int, ...]
    layers: dict[str, tuple[int, ...]]
    tolerance: float = 1e-6

    def batch(self, n: int = N) -> np.ndarray:
        return numbers(n, *self.shape, seed=9)


CASES = {
    "mlp": Case(models.mlp, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "double": Case(lambda: models.mlp(np.float64), (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "half": Case(lambda: models.mlp(np.float16), (6,), {"fc1": (9, 6), "fc2": (5, 9)}, 4e-3),
    "half inside": Case(models.half_inside, (6,), {"fc1": (9, 6), "fc2": (5, 9)}, 4e-3),
    "scaled": Case(models.gemm_scaled, (6,), {"fc1": (9, 6), "head": (5, 9)}),
    "turned": Case(models.gemm_turned, (6,), {"w1": (9, 6), "w2": (5, 9), "w3": (4, 5)}),
    "bias apart": Case(
        models.matmul_add, (4, 6), {"embed": (9, 6), "project": (7, 9), "MatMul_2": (5, 7)}, 3e-6
    ),
    "weight left": Case(models.weight_left, (6, 4), {"mix": (9, 6), "head": (5, 9)}),
    "hidden weights": Case(models.hidden_weights, (6,), {"k": (9, 6), "second": (5, 9)}),
    "convolutions": Case(
        models.convolutions,
        (6, 7, 8),
        {"c1": (4, 3, 3, 2), "up": (10, 2, 2, 3), "same": (7, 10, 3, 2), "fc": (5, 7)},
    ),
    "other dimensions": Case(
        models.other_dimensions,
        (3, 12),
        {"line": (4, 3, 3), "volume": (6, 4, 2, 1, 2), "fc": (5, 6)},
    ),
    "residual": Case(models.residual, (6,), {"up": (9, 6), "down": (6, 9), "head": (5, 15)}),
    "captured": Case(models.captured, (6,), {"fc1": (9, 6), "other": (9, 6), "fc2": (5, 9)}),
    "sequences": Case(models.sequences, (6,), {"fc1": (9, 6), "fc2": (5, 12)}),
    "baked batch": Case(models.baked_batch, (3, 6), {"c": (2, 3, 3), "fc": (5, 12)}),
    "needed batch": Case(models.needed_batch, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "function": Case(models.function_inside, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
}
every_layer = pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, layer, id=f"{title}: {layer}")
        for title, case in CASES.items()
        for layer in case.layers
    ],
)


def close(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


# Cuts


@every_layer
@pytest.mark.parametrize("n", [N, 1])
def test_a_cut_answers_as_the_whole_model_does(case: Case, name: str, n: int) -> None:
    network, x = open_network(case.build()), case.batch(n)
    layer, cut, scores = network.layers()[name], network.cut(name, x), network.predict(x)
    random = np.random.default_rng(0)
    update = (random.standard_normal(layer.weight.shape) / 2).astype(layer.weight.dtype)
    some = random.permutation(layer.neurons)[: (layer.neurons + 1) // 2]

    assert isinstance(network, Network)
    assert isinstance(cut, Cut)
    assert cut.calls == 1
    assert cut.inputs.shape[:2] == (n, layer.neurons)
    assert scores.dtype == np.promote_types(layer.weight.dtype, np.float32)
    before = cut.output.copy()
    close(cut.tail(cut.output), scores, case.tolerance)

    wide = np.promote_types(update.dtype, np.float32)
    width = layer.weight.shape[1]
    chosen = np.zeros((layer.groups, width), dtype=bool)
    chosen[some // width, some % width] = True
    mask = np.repeat(chosen, len(layer.weight) // layer.groups, axis=0)
    moved = 2 * update.astype(wide) * mask.reshape(*mask.shape, *[1] * (update.ndim - 2))
    changed = network.replace({name: layer.weight - moved})
    # As it is stored after rounding.
    change = layer.weight.astype(wide) - changed.layers()[name].weight.astype(wide)
    candidate = before - cut.linear(np.asfortranarray(change), some)
    answers = [cut.tail(candidate) for _ in range(3)]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])
    actual = changed.predict(x)
    assert np.abs(actual - scores).max() > 1e-3
    close(answers[0], actual, case.tolerance)
    # What is handed out is what was measured.
    close(open_network(changed.native).predict(x), actual, case.tolerance)
    assert np.array_equal(cut.output, before)
    assert np.array_equal(cut.tail(before), cut.tail(before))


@every_layer
def test_contributions_add_up_to_the_preactivation(case: Case, name: str) -> None:
    network, x = open_network(case.build()), case.batch()
    layer, cut = network.layers()[name], network.cut(name, x)
    weight = layer.weight.astype(np.promote_types(layer.weight.dtype, np.float32))
    zero = network.replace({name: np.zeros_like(weight)}).cut(name, x)
    everything = cut.linear(weight, np.arange(layer.neurons)[::-1])
    close(everything + zero.output, cut.output, max(case.tolerance, 2e-6))
    one_by_one = [cut.linear(weight, np.array([neuron])) for neuron in range(layer.neurons)]
    close(np.sum(one_by_one, axis=0), everything, 1e-5)
    nothing = cut.linear(weight, np.array([], dtype=int))
    assert nothing.shape == cut.output.shape
    assert not nothing.any()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_layers_are_canonical_and_the_model_stays_as_it_is(case: Case) -> None:
    proto = case.build()
    content = proto.SerializeToString()
    network, x = open_network(proto), case.batch()
    layers = network.layers()
    assert {name: layer.weight.shape for name, layer in layers.items()} == case.layers
    for name, layer in layers.items():
        assert not layer.weight.flags.writeable
        network.cut(name, x)
        changed = network.replace({name: -layer.weight})
        assert np.array_equal(changed.layers()[name].weight, -layer.weight)
        assert np.array_equal(open_network(changed.native).layers()[name].weight, -layer.weight)
        checker.check_model(changed.native)
    assert proto.SerializeToString() == content
    assert network.native.SerializeToString() == content


# Biases


def left_or_right(left: bool, *bias: int, dtype: Any = np.float64) -> ModelProto:
    """``W @ x + b`` or ``x @ W + b`` of 6 features at 4 positions, then the mean over those."""
    weight = numbers(9, 6, dtype=dtype) if left else numbers(6, 9, dtype=dtype)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return models.model(
        [
            node("MatMul", ["w", "x"] if left else ["x", "w"], ["z"]),
            node("Add", ["b", "z"], ["y"]),
            node("Tanh", ["y"], ["a"]),
            node("ReduceMean", ["a", "axis"], ["scores"], keepdims=0),
        ],
        [value("x", "n", *((6, 4) if left else (4, 6)), element=element)],
        [value("scores", "n", 9, element=element)],
        w=weight,
        b=numbers(*bias, dtype=dtype),
        axis=np.array([2 if left else 1]),
    )


@pytest.mark.parametrize(("left", "shape"), [(False, (9,)), (False, (1, 9)), (True, (9, 1))])
def test_a_bias_in_a_node_of_its_own_is_part_of_the_layer(
    left: bool, shape: tuple[int, ...]
) -> None:
    network = open_network(left_or_right(left, *shape))
    x = numbers(N, *((6, 4) if left else (4, 6)), seed=1, dtype=np.float64)
    (name,) = network.layers()
    layer = network.layers()[name]
    assert layer.bias is not None
    bias = np.arange(9.0)
    changed = network.replace({}, {name: bias})
    before, after = network.cut(name, x), changed.cut(name, x)
    move = bias - layer.bias
    close(
        after.output - before.output,
        np.broadcast_to(move[:, None] if left else move, before.output.shape),
        1e-12,
    )
    rest = after.output - after.linear(layer.weight, np.arange(6))
    close(rest, np.broadcast_to(bias[:, None] if left else bias, rest.shape), 1e-12)
    close(before.tail(after.output), changed.predict(x), 1e-12)
    update = numbers(9, 6, seed=2, dtype=np.float64)
    both = changed.replace({name: layer.weight - update})
    candidate = after.output - after.linear(update, np.arange(6))
    close(after.tail(candidate), both.predict(x), 1e-12)
    (stored,) = (each for each in both.native.graph.initializer if each.name == "b")
    assert tuple(stored.dims) == shape
    close(open_network(pickle.loads(pickle.dumps(both)).native).predict(x), both.predict(x), 1e-12)


@pytest.mark.parametrize("shape", [(4, 1), (1, 1, 9), (4, 9), ()])
def test_what_else_is_added_is_no_bias(shape: tuple[int, ...]) -> None:
    network = open_network(left_or_right(False, *shape))
    (name,) = network.layers()
    assert network.layers()[name].bias is None
    with pytest.raises(WeightsError, match="shows none"):
        network.replace({}, {name: np.zeros(9)})


def test_a_bias_that_is_scaled_shared_read_elsewhere_or_computed_is_not_shown() -> None:
    scaled = models.mlp()
    scaled.graph.node[0].attribute.append(helper.make_attribute("beta", 0.5))
    assert open_network(scaled).layers()["fc1"].bias is None
    shared = models.mlp()
    shared.graph.node[1].CopyFrom(node("Add", ["z", "fc1.bias"], ["a"]))
    assert open_network(shared).layers()["fc1"].bias is None
    read = left_or_right(False, 9)
    read.graph.output.append(value("z", "n", 4, 9, element=TensorProto.DOUBLE))
    (layer,) = open_network(OnnxModel(read, scores="scores")).layers().values()
    assert layer.bias is None
    computed = models.mlp()
    computed.graph.node.insert(0, node("Neg", ["fc1.bias"], ["negative"]))
    computed.graph.node[1].input[2] = "negative"
    assert open_network(computed).layers()["fc1"].bias is None
    assert open_network(models.mlp()).layers()["fc1"].bias is not None


@pytest.mark.parametrize(
    ("to", "found"), [(models.FLOAT, True), (models.DOUBLE, False)], ids=["idle", "of another type"]
)
def test_a_bias_is_found_behind_casts_that_change_nothing(to: int, found: bool) -> None:
    """Keras's export on PyTorch is full of them."""
    weight, bias = numbers(6, 9), numbers(9).astype(onnx.helper.tensor_dtype_to_np_dtype(to))
    network = open_network(
        models.model(
            [
                node("MatMul", ["x", "w"], ["product"]),
                node("Cast", ["product"], ["once"], to=models.FLOAT),
                node("Cast", ["once"], ["twice"], to=to),
                node("Add", ["twice", "b"], ["sum"]),
                node("Cast", ["sum"], ["scores"], to=models.FLOAT),
            ],
            [value("x", "n", 6)],
            [value("scores", "n", 9)],
            w=weight,
            b=bias,
        )
    )
    ((name, layer),) = network.layers().items()
    assert (layer.bias is not None) == found
    x = numbers(N, 6)
    cut = network.cut(name, x)
    close(cut.tail(cut.output), network.predict(x))
    if found:
        close(np.reshape(cut.output, (N, 9)), x @ weight + bias)
        close(network.replace({}, {name: 0 * bias}).predict(x), x @ weight)


@pytest.mark.parametrize(
    ("last", "kind", "found"),
    [(9, np.int64, True), (9, np.int32, True), (1, np.int64, False), (9, np.float32, False)],
)
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_bias_is_found_behind_tokens_that_are_put_back_in_their_samples(
    last: int, kind: Any, found: bool
) -> None:
    """TensorFlow multiplies them as rows of one matrix."""
    weight, bias = numbers(6, 9), numbers(9)
    made = helper.make_graph(
        [
            node("Reshape", ["x", "flat"], ["rows"]),
            node("MatMul", ["rows", "w"], ["product"], name="each"),
            node("Concat", ["tokens", "last"], ["listed"], axis=0),
            node("Cast", ["listed"], ["shape"], to=TensorProto.INT64),
            node("Reshape", ["product", "shape"], ["samples"]),
            node("Add", ["samples", "b"], ["sum"]),
            node("Relu", ["sum"], ["active"]),
            node("ReduceMean", ["active", "one"], ["scores"], keepdims=0),
        ],
        "tokens",
        [value("x", "n", 4, 6)],
        [value("scores", "n", 9)],
        [
            numpy_helper.from_array(array, name)
            for name, array in {
                "w": weight,
                "b": bias,
                "flat": np.array([-1, 6]),
                "tokens": np.array([-1, 4 * 9 // last], kind),
                "last": np.array([last], kind),
                "one": np.array([1]),
            }.items()
        ],
    )
    network = open_network(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )
    ((name, layer),) = network.layers().items()
    assert (layer.bias is not None) == found
    if found:
        x = numbers(N, 4, 6)
        cut, changed = network.cut(name, x), network.replace({}, {name: 2 * bias})
        close(cut.tail(cut.output), network.predict(x))
        expected = np.maximum(x @ weight + 2 * bias, 0).mean(axis=1)
        close(changed.predict(x), expected)
        weights = {name: layer.weight + numbers(9, 6, seed=1)}
        purified = flain.purify(
            changed.replace(weights),
            initial=network,
            data=(x.repeat(10, axis=0), expected.argmax(axis=1).repeat(10)),
            settings=flain.Settings(tolerance=0.05),
        )
        assert (purified.layers[0].flip, purified.layers[0].method) == ("directions", "incremental")


def test_biases_keep_their_type_and_are_stored_where_they_were() -> None:
    network = open_network(models.mlp(np.float16))
    bias = np.linspace(0, 1, 9)
    changed = network.replace({}, {"fc1": bias})
    assert np.array_equal(changed.layers()["fc1"].bias, bias.astype(np.float16))
    before, after = tensors(network.native), tensors(changed.native)
    assert [name for name in before if before[name] != after[name]] == ["fc1.bias"]
    with pytest.raises(WeightsError, match="bias of 'fc1': expected numbers that are finite in"):
        network.replace({}, {"fc1": np.full(9, 1e6)})


def test_canonical_weights_by_hand() -> None:
    proto = models.convolutions()
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    layers = open_network(proto).layers()
    assert (layers["up"].groups, layers["up"].neurons) == (2, 4)
    # Input channel 3 is the second of group 1; output channel 9 is the last of group 1.
    assert np.array_equal(layers["up"].weight[9, 1], stored["up.weight"][3, 4])
    assert np.array_equal(layers["c1"].weight, stored["c1.weight"])
    proto = models.gemm_turned()
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    layers = open_network(proto).layers()
    assert np.array_equal(layers["w1"].weight, stored["w1"].T)
    assert np.array_equal(layers["w2"].weight, stored["w2"].T)
    assert np.array_equal(layers["w3"].weight, stored["w3"])


@pytest.mark.parametrize(
    ("weight", "node_name", "scopes", "expected"),
    [
        ("fc1.weight", "", "", "fc1"),
        ("0.weight", "/0/Gemm", "", "0"),
        ("conv2.weight", "", "", "conv2"),
        ("onnx::MatMul_19", "/blocks.0/up/MatMul", "", "blocks.0/up"),
        ("val_0", "node_MatMul_3", "['', 'head', 'linear_1']", "head"),
        ("val_0", "node_MatMul_3", "['', '0', 'linear_1']", "0"),
        ("val_0", "node_MatMul_3", "not a list", "Gemm_0"),
        ("functional_1/fc1_1/Cast/ReadVariableOp:0", "", "", "functional_1/fc1_1"),
        ("onnx::Gemm_9", "/Gemm", "", "Gemm_0"),
        ("12", "", "", "Gemm_0"),
    ],
)
def test_layers_go_by_the_name_that_their_framework_gave_them(
    weight: str, node_name: str, scopes: str, expected: str
) -> None:
    def change(proto: ModelProto) -> None:
        first = proto.graph.node[0]
        first.input[1] = proto.graph.initializer[0].name = weight
        first.name = node_name
        entry = first.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", scopes

    assert list(open_network(models.retouched(models.mlp(), change)).layers()) == [expected, "fc2"]


def test_inputs_have_neurons_on_axis_1() -> None:
    x = numbers(N, 4, 6)
    assert np.array_equal(
        open_network(models.matmul_add()).cut("embed", x).inputs, x.swapaxes(1, 2)
    )
    x = numbers(N, 6, 4)
    assert np.array_equal(open_network(models.weight_left()).cut("mix", x).inputs, x)
    x = numbers(N, 6)
    assert np.array_equal(open_network(models.gemm_turned()).cut("w1", x).inputs, x)
    x = numbers(N, 3, 6)
    assert np.array_equal(open_network(models.baked_batch()).cut("c", x).inputs, x)


def test_a_layer_can_be_cut_after_another_was_replaced() -> None:
    network, x = open_network(models.residual()), numbers(N, 6)
    for first, second in (("up", "down"), ("head", "up")):
        changed = network.replace({first: network.layers()[first].weight * 0.5})
        cut, scores = changed.cut(second, x), changed.predict(x)
        close(cut.tail(cut.output), scores)
        assert np.abs(scores - network.predict(x)).max() > 1e-3
        both = changed.replace({second: -network.layers()[second].weight})
        assert np.array_equal(both.layers()[first].weight, changed.layers()[first].weight)
        close(open_network(both.native).predict(x), both.predict(x))


def test_a_change_of_the_batch_does_not_reach_the_cut() -> None:
    network, x = open_network(models.residual()), numbers(N, 6)
    cut, scores, inputs = network.cut("up", x), network.predict(x), x.copy()
    x[:] = 0
    assert np.array_equal(cut.inputs, inputs)
    close(cut.tail(cut.output), scores)


def test_half_precision_is_computed_wide_and_rounded_once() -> None:
    network = open_network(models.mlp(np.float16))
    layer = network.layers()["fc1"]
    assert (layer.weight.dtype, layer.epsilon) == (np.float16, 2.0**-10)
    assert network.cut("fc1", numbers(N, 6)).output.dtype == np.float32
    assert network.predict(numbers(N, 6)).dtype == np.float32
    third = np.full((9, 6), 1 / 3)
    stored = network.replace({"fc1": third}).native.graph.initializer[0]
    assert np.array_equal(numpy_helper.to_array(stored), third.astype(np.float16))
    with pytest.raises(WeightsError, match="finite in float16; got NaN, infinity or numbers out"):
        network.replace({"fc1": np.full((9, 6), 1e6)})
    behind_a_cast = open_network(models.hidden_weights()).layers()["k"]
    assert (behind_a_cast.weight.dtype, behind_a_cast.epsilon) == (np.float16, 2.0**-23)


@pytest.mark.parametrize(
    "weight", [np.ones((6, 9)), np.full((9, 6), np.nan), np.ones((9, 6), "c8")]
)
def test_replace_refuses_bad_weights(weight: np.ndarray) -> None:
    with pytest.raises(WeightsError, match="'fc1'"):
        open_network(models.mlp()).replace({"fc1": weight})


def test_unknown_layers_are_named_with_the_known_ones() -> None:
    network = open_network(models.mlp())
    with pytest.raises(LayerError, match=r"has 'fc1', 'fc2'\. Did you mean 'fc1'"):
        network.cut("fc_1", numbers(N, 6))


# Inputs and outputs


def test_several_inputs_are_a_tuple_or_a_dict() -> None:
    network = open_network(models.two_inputs())
    x, tokens = numbers(N, 2), np.random.default_rng(0).integers(0, 11, (N, 4))
    scores = network.predict((tokens, x))
    assert scores.shape == (N, 5)
    assert np.array_equal(network.predict({"x": x, "tokens": tokens.astype(np.int32)}), scores)
    cut = network.cut("fc1", (tokens, x))
    close(cut.tail(cut.output), scores)
    for bad in ({"x": x}, (tokens,), x):
        with pytest.raises(ModelError, match=r"inputs \['tokens', 'x'\]"):
            network.predict(bad)
    with pytest.raises(ModelError, match="reads int64; got float32"):
        network.predict((x, x))
    with pytest.raises(ModelError, match="one n of at least 1"):
        network.predict((tokens, x[:3]))


def test_samples_that_do_not_fit_are_refused() -> None:
    network = open_network(models.mlp())
    for bad in (numbers(N, 5), numbers(N, 2, 3)):
        with pytest.raises(ModelError, match="onnxruntime failed on inputs of shapes") as told:
            network.predict(bad)
        assert str(told.value).endswith("; " + AS_TRAINED)
    with pytest.raises(ModelError, match="expected numbers"):
        network.predict(np.array(["cat"]))


def with_outputs(*outputs: Any) -> ModelProto:
    def change(proto: ModelProto) -> None:
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)

    return models.retouched(models.mlp(), change)


def test_the_scores_are_found_or_chosen() -> None:
    x = numbers(N, 6)
    truth = open_network(models.mlp()).predict(x)
    hidden, scores = value("a", "n", 9), value("scores", "n", 5)
    assert np.array_equal(open_network(with_outputs(hidden, scores)).predict(x), truth)

    def rename(proto: ModelProto) -> None:
        proto.graph.node[-1].output[0] = proto.graph.output[-1].name = "y"

    ambiguous = models.retouched(with_outputs(hidden, scores), rename)
    with pytest.raises(ModelError, match=r"\['a', 'y'\], of which 2 are floating point; choose"):
        open_network(ambiguous)
    assert np.array_equal(open_network(OnnxModel(ambiguous, scores="y")).predict(x), truth)
    assert list(open_network(ambiguous, like=OnnxModel(ambiguous, scores="y")).layers()) == [
        "fc1",
        "fc2",
    ]
    with pytest.raises(ModelError, match=r"no output 'z'; it has 'a', 'y'\."):
        open_network(OnnxModel(ambiguous, scores="z"))
    # Seen from the hidden values, the second layer does nothing.
    network = open_network(OnnxModel(ambiguous, scores="a"))
    assert list(network.layers()) == ["fc1"]
    with pytest.raises(LayerError, match="the scores 'a' do not depend on it"):
        network.cut("fc2", x)


def test_execution_providers_are_chosen_and_checked() -> None:
    chosen = OnnxModel(models.mlp(), providers=[("CPUExecutionProvider", {})])
    assert open_network(chosen).predict(numbers(N, 6)).shape == (N, 5)
    with pytest.raises(ModelError, match="got \\['NoExecutionProvider'\\]"):
        open_network(OnnxModel(models.mlp(), providers=["NoExecutionProvider"]))


@pytest.mark.parametrize("build", [models.baked_batch, models.needed_batch])
def test_samples_need_not_fit_a_fixed_batch(build: Callable[[], ModelProto]) -> None:
    network, x = open_network(build()), numbers(10, *CASES["baked batch"].shape)
    x = x if build is models.baked_batch else x[:, 0]
    whole = network.predict(x)
    assert whole.shape == (10, 5)
    for index in range(10):
        close(open_network(build()).predict(x[index : index + 1]), whole[index : index + 1])
    chunks = (1, 10) if build is models.baked_batch else (3, 4)
    last = list(network.layers())[-1]
    assert network.cut(last, x).output.shape == (*chunks, 5)


def test_what_is_added_behind_columns_that_are_arranged_anew_is_no_bias() -> None:
    made = helper.make_graph(
        [
            node("MatMul", ["w", "x"], ["product"], name="left"),
            node("Reshape", ["product", "shape"], ["squares"]),
            node("Add", ["squares", "b"], ["scores"]),
        ],
        "columns",
        [value("x", "n", 6, 18)],
        [value("scores", "n", 2, 9, 9)],
        [
            numpy_helper.from_array(array, name)
            for name, array in {
                "w": numbers(9, 6),
                "b": numbers(9, 1),
                "shape": np.array([-1, 2, 9, 9]),
            }.items()
        ],
    )
    network = open_network(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )
    assert [layer.bias for layer in network.layers().values()] == [None]


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize(("samples", "flip"), [(30, "neurons"), (32, "directions")])
def test_samples_that_fill_up_a_fixed_batch_are_flipped_in_directions(
    samples: int, flip: str
) -> None:
    final, x = open_network(models.needed_batch()), numbers(samples, 6)
    update = numbers(9, 6, seed=3) / 10
    initial = final.replace({"fc1": final.layers()["fc1"].weight - update})
    data = x, final.predict(x).argmax(axis=1)
    purified = flain.purify(final, initial=initial, data=data, layers="fc1", outputs="logits")
    assert purified.layers[0].flip == flip


def test_a_fixed_batch_is_kept_where_it_matters() -> None:
    network, x = open_network(models.mixing_batch()), numbers(6, 6)
    pairs = [open_network(models.mixing_batch()).predict(x[at : at + 2]) for at in (0, 2, 4)]
    assert np.array_equal(network.predict(x), np.concatenate(pairs))


def test_old_models_list_their_weights_as_inputs() -> None:
    def change(proto: ModelProto) -> None:
        proto.ir_version, proto.opset_import[0].version = 3, 9
        for each in proto.graph.initializer:
            proto.graph.input.append(value(each.name, *each.dims))

    old = models.retouched(models.mlp(), change)
    checker.check_model(old)
    network, x = open_network(old), numbers(N, 6)
    cut = network.cut("fc1", x)
    close(cut.tail(cut.output), open_network(models.mlp()).predict(x))
    assert open_network(network.replace({"fc1": np.zeros((9, 6))}).native).predict(x).shape == (
        N,
        5,
    )


# Refusals


def test_shared_weights_are_refused() -> None:
    def share(proto: ModelProto) -> None:
        proto.graph.node[1].CopyFrom(node("MatMul", ["z", "fc1.weight"], ["y"]))
        proto.graph.node[2].CopyFrom(node("Gemm", ["y", "fc3"], ["scores"]))
        proto.graph.initializer.append(numpy_helper.from_array(numbers(6, 5), "fc3"))

    network = open_network(models.retouched(models.mlp(), share))
    assert list(network.layers()) == ["fc3"]
    with pytest.raises(
        LayerError, match=r"'fc1' cannot be purified: its weight 'fc1.weight' is used"
    ):
        network.replace({"fc1": np.zeros((9, 6))})
    with pytest.raises(LayerError, match="'fc1_2' cannot be purified"):
        network.cut("fc1_2", numbers(N, 6))


def test_a_weight_whose_shape_is_read_is_not_shared() -> None:
    """As by torch's exporter, unoptimized, of a convolution without bias, as in a ResNet."""
    proto = models.model(
        [
            node("Shape", ["conv.weight"], ["out"], start=0, end=1),
            node("ConstantOfShape", ["out"], ["bias"]),
            node("Conv", ["x", "conv.weight", "bias"], ["z"]),
            node("GlobalAveragePool", ["z"], ["p"]),
            node("Flatten", ["p"], ["scores"]),
        ],
        [value("x", "n", 3, 6, 5)],
        [value("scores", "n", 4)],
        conv__weight=numbers(4, 3, 2, 3),
    )
    network, x = open_network(proto), numbers(N, 3, 6, 5)
    weight, half = numbers(4, 3, 2, 3, seed=1), np.array([0, 2])
    mixed = network.layers()["conv"].weight.copy()
    mixed[:, half] = weight[:, half]
    cut = network.cut("conv", x)
    moved = cut.output - cut.linear(network.layers()["conv"].weight - weight, half)
    truth = network.replace({"conv": mixed}).predict(x)
    np.testing.assert_allclose(cut.tail(moved), truth, atol=1e-6)
    assert np.abs(truth - network.predict(x)).max() > 0.1


@pytest.mark.parametrize("kind", ["weight", "dynamic", "integer"])
def test_quantized_models_are_refused(kind: str) -> None:
    quantized = numpy_helper.from_array(np.ones((6, 5), np.int8), "q")
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    if kind == "weight":
        nodes = [
            node("DequantizeLinear", ["q", "s"], ["w"]),
            node("MatMul", ["x", "w"], ["scores"]),
        ]
    elif kind == "integer":
        nodes = [
            node("Cast", ["x"], ["i"], to=TensorProto.INT8),
            node("MatMulInteger", ["i", "q"], ["y"]),
            node("Cast", ["y"], ["scores"], to=TensorProto.FLOAT),
        ]
    else:
        nodes = [
            node("DynamicQuantizeLinear", ["x"], ["i", "si", "zi"]),
            node("MatMulInteger", ["i", "q", "zi"], ["y"]),
            node("Cast", ["y"], ["scores"], to=TensorProto.FLOAT),
        ]
    graph = helper.make_graph(
        nodes, "g", [value("x", "n", 6)], [value("scores", "n", 5)], [quantized, scale]
    )
    with pytest.raises(ModelError, match=r"quantized .* purify the float model, then quantize"):
        open_network(helper.make_model(graph))


def first_out(proto: ModelProto) -> int:
    return int(proto.graph.initializer[0].dims[0])


def folded(how: str) -> ModelProto:
    def change(proto: ModelProto) -> None:
        first = proto.graph.node[0]
        if how == "dynamo":
            entry = first.metadata_props.add()
            entry.key, entry.value = "pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoConv"
        else:
            first.input[1] = proto.graph.initializer[0].name = how
        if how.startswith("onnx::"):
            bias = numpy_helper.from_array(numbers(first_out(proto)), "onnx::Conv_22")
            proto.graph.initializer.append(bias)
            first.input[2:] = [bias.name]

    return models.retouched(models.convolutions(), change)


@pytest.mark.parametrize("how", ["dynamo", "onnx::Conv_21", "net/conv2d/merged_input:0"])
def test_folded_batch_normalization_is_refused(how: str) -> None:
    network = open_network(folded(how))
    assert len(network.layers()) == 3
    (name,) = network.refused_layers()
    with pytest.raises(LayerError, match=r"folded a batch norm.*optimize=False"):
        network.cut(name, numbers(N, 6, 7, 8))


def test_a_renamed_weight_beside_no_new_bias_is_not_taken_for_a_folded_one() -> None:
    """As when Keras's weights are transposed while its torch engine exports them."""

    def rename(proto: ModelProto) -> None:
        first = proto.graph.node[0]
        first.input[1] = proto.graph.initializer[0].name = "onnx::Conv_21"
        del first.input[2:]

    network = open_network(models.retouched(models.convolutions(), rename))
    assert len(network.layers()) == 4


def test_bfloat16_is_refused() -> None:
    def change(proto: ModelProto) -> None:
        weight = proto.graph.initializer[0]
        weight.CopyFrom(
            helper.make_tensor(weight.name, TensorProto.BFLOAT16, weight.dims, np.ones(54))
        )
        cast = node("Cast", ["fc1.weight"], ["w"], to=TensorProto.FLOAT)
        proto.graph.node.insert(0, cast)
        proto.graph.node[1].input[1] = "w"

    network = open_network(models.retouched(models.mlp(), change))
    assert list(network.layers()) == ["fc2"]
    with pytest.raises(LayerError, match="bfloat16, which onnxruntime cannot"):
        network.cut("fc1", numbers(N, 6))


def test_a_model_without_a_usable_layer_says_why() -> None:
    def change(proto: ModelProto) -> None:
        proto.graph.output.append(value("fc1.weight", 9, 6))
        proto.graph.output.append(value("fc2.weight", 5, 9))

    final = models.retouched(models.mlp(), change)
    network = open_network(final)
    assert network.layers() == {}
    assert list(network.refused_layers()) == ["fc1", "fc2"]
    assert network.predict(numbers(N, 6)).shape == (N, 5)
    reasons = "no layer of the model can be purified: 'fc1': its weight .*; 'fc2': its weight"
    for layers in ("auto", "all", "fc1"):
        with pytest.raises(LayerError, match=reasons):
            flain.purify(
                final, initial=final, data=(numbers(N, 6), np.zeros(N, int)), layers=layers
            )


def in_bodies(outside: bool) -> ModelProto:
    """Layers in the branches of an If and in a Loop in one of them; one before it, or none."""
    first = (
        node("Gemm", ["x", "fc1.weight"], ["z"], transB=1)
        if outside
        else node("Pad", ["x", "wider"], ["z"])
    )
    inner = helper.make_graph(
        [
            node("MatMul", ["state", "fc2.weight"], ["next"]),
            node("Identity", ["go"], ["again"]),
        ],
        "inner",
        [
            value("i", element=TensorProto.INT64),
            value("go", element=TensorProto.BOOL),
            value("state", "n", 9),
        ],
        [value("again", element=TensorProto.BOOL), value("next", "n", 9)],
    )
    then = helper.make_graph(
        [
            node("Transpose", ["turned"], ["w"]),
            node("MatMul", ["z", "w"], ["own"]),
            node("MatMul", ["own", "own2"], ["both"]),
            node("Loop", ["twice", "", "both"], ["t"], body=inner),
        ],
        "then",
        [],
        [value("t", "n", 9)],
        [numpy_helper.from_array(numbers(9, 9), name) for name in ("turned", "own2")],
    )
    otherwise = helper.make_graph([node("Neg", ["z"], ["e"])], "else", [], [value("e", "n", 9)])
    return models.model(
        [
            first,
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Less", ["total", "large"], ["condition"]),
            node("If", ["condition"], ["scores"], then_branch=then, else_branch=otherwise),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 9)],
        fc2__weight=numbers(9, 9),
        large=np.array(1e6, np.float32),
        twice=np.array(2),
        **({"fc1__weight": numbers(9, 6)} if outside else {"wider": np.array([0, 0, 0, 3])}),
    )


def test_layers_in_bodies_are_refused() -> None:
    network, x = open_network(in_bodies(outside=True)), numbers(N, 6)
    assert list(network.layers()) == ["fc1"]
    refused = network.refused_layers()
    assert list(refused) == ["turned", "own2", "fc2"]
    assert "a body of the operator If" in refused["fc2"]
    assert list(pickle.loads(pickle.dumps(network)).refused_layers()) == list(refused)
    with pytest.raises(LayerError, match="'own2' cannot be purified: it is in a body of the op"):
        network.cut("own2", x)
    # Of the initial model only the layers outside have to fit.
    theirs = open_network(renamed(in_bodies(outside=True), {"fc1.weight": "v"}), like=network)
    assert list(theirs.layers()) == ["fc1"]

    model = in_bodies(outside=False)
    assert open_network(model).layers() == {}
    with pytest.raises(LayerError, match="no layer of the model can be purified: 'turned': it is"):
        flain.purify(model, initial=model, data=(x, np.zeros(N, int)))


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_layers_that_a_group_leaves_out_are_noted() -> None:
    def change(proto: ModelProto) -> None:
        proto.graph.output.append(value("fc1.weight", 9, 6))

    initial = models.retouched(models.mlp(), change)
    final = open_network(initial)
    changed = final.replace({"fc2": final.layers()["fc2"].weight + numbers(5, 9, seed=3)})
    x = numbers(300, 6)
    result = flain.purify(
        changed.native,
        initial=initial,
        data=(x, changed.predict(x).argmax(axis=1)),
        layers="all",
    )
    (note,) = [each for each in result.notes if "fc1" in each]
    assert "its weight 'fc1.weight' is used elsewhere" in note


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected an onnx.ModelProto"):
        open_network("model.onnx")  # type: ignore[arg-type]

    def break_it(proto: ModelProto) -> None:
        proto.graph.node[1].op_type = "NoSuchOperator"

    network = open_network(models.retouched(models.mlp(), break_it))
    with pytest.raises(ModelError, match="onnxruntime cannot open the model"):
        network.predict(numbers(N, 6))


# Initial and final


def renamed(proto: ModelProto, names: dict[str, str]) -> ModelProto:
    def change(copy: ModelProto) -> None:
        for each in copy.graph.initializer:
            each.name = names.get(each.name, each.name)
        for each in copy.graph.node:
            each.input[:] = [names.get(name, name) for name in each.input]

    return models.retouched(proto, change)


def test_layers_of_two_exports_are_paired_by_position(tmp_path: Path) -> None:
    final, initial = models.mlp(), renamed(models.mlp(), {"fc1.weight": "onnx::Gemm_9"})

    def without_bias(proto: ModelProto) -> None:
        gemm = proto.graph.node[0]
        gemm.CopyFrom(node("MatMul", ["x", "w"], ["z"]))
        weight = numpy_helper.to_array(proto.graph.initializer[0])
        proto.graph.initializer.append(numpy_helper.from_array(weight.T.copy(), "w"))

    initial = models.retouched(initial, without_bias)
    alone = open_network(initial).layers()
    assert list(alone) != ["fc1", "fc2"]
    layers = open_network(initial, like=final).layers()
    assert [(name, layer.name) for name, layer in layers.items()] == [("fc1",) * 2, ("fc2",) * 2]
    assert np.array_equal(layers["fc1"].weight, open_network(final).layers()["fc1"].weight)

    # Files are paired as well, whatever mixture of files and models is given.
    paths = [tmp_path / "initial.onnx", tmp_path / "final.onnx"]
    for proto, path in zip((initial, final), paths, strict=True):
        onnx.save(proto, path)
    for one, other in ((paths[0], paths[1]), (initial, paths[1]), (paths[0], final)):
        assert list(open_anything(one, like=other).layers()) == ["fc1", "fc2"]
    assert list(open_anything(paths[0], like=open_network(final)).layers()) == ["fc1", "fc2"]


def test_layers_are_paired_by_name_where_the_order_differs() -> None:
    final, initial = two_branches(first="left", seed=1), two_branches(first="left", seed=1)
    joined = next(each for each in initial.graph.node if each.op_type == "Add")
    joined.input[:] = reversed(joined.input)
    checker.check_model(initial)
    assert list(open_network(initial).layers()) == ["right1", "left1", "head1"]
    theirs = open_network(initial, like=final).layers()
    ours = open_network(final).layers()
    assert list(theirs) == list(ours) == ["left1", "right1", "head1"]
    assert all(np.array_equal(theirs[name].weight, ours[name].weight) for name in ours)


def test_exports_that_cannot_be_paired_are_refused() -> None:
    final = models.mlp()
    with pytest.raises(WeightsError, match=r"have 3 and 2 layers .* the same exporter"):
        open_network(models.residual(), like=final)
    with pytest.raises(
        WeightsError, match=r"layer 1 is 'fc1' \(dense, 9×6\) .* 'first' \(dense, 7×6\)"
    ):
        other = models.model(
            [node("Gemm", ["x", "first.weight"], ["z"]), node("Gemm", ["z", "w"], ["scores"])],
            [value("x", "n", 6)],
            [value("scores", "n", 5)],
            first__weight=numbers(6, 7),
            w=numbers(7, 5),
        )
        open_network(final, like=other)
    with pytest.raises(WeightsError, match=r"'c1' cannot be purified in one of .* folded"):
        open_network(folded("onnx::Conv_21"), like=models.convolutions())


# Files


def test_only_the_purified_tensor_changes_in_a_file(tmp_path: Path) -> None:
    proto = models.residual()
    onnx.save(proto, tmp_path / "final.onnx")
    network = open_anything(tmp_path / "final.onnx")
    changed = network.replace({"down": -network.layers()["down"].weight})
    assert isinstance(changed.native, OnnxModel)
    save(changed.native, tmp_path / "purified.onnx")
    written = onnx.load(tmp_path / "purified.onnx")
    checker.check_model(tmp_path / "purified.onnx", full_check=True)
    before, after = tensors(proto), tensors(written)
    assert [name for name in before if before[name] != after[name]] == ["down.weight"]
    weights = [each for each in written.graph.initializer if each.name != "down.weight"]
    del written.graph.initializer[:], proto.graph.initializer[2]
    written.graph.initializer.extend(weights)
    assert written.SerializeToString(deterministic=True) == proto.SerializeToString(
        deterministic=True
    )
    close(
        open_network(load(tmp_path / "purified.onnx")).predict(numbers(N, 6)),
        changed.predict(numbers(N, 6)),
    )
    with pytest.raises(OutputError, match="exists already"):
        save(changed.native, tmp_path / "purified.onnx")
    with pytest.raises(OutputError, match=r"expected the suffix .onnx"):
        save(changed.native, tmp_path / "purified.npz")


def loaded(tensors: list[TensorProto], folder: Path) -> list[TensorProto]:
    for each in tensors:
        onnx.external_data_helper.load_external_data_for_tensor(each, str(folder))
    return tensors


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose tensors lie in a file in a folder beside it."""
    folder = tmp_path / "from"
    (folder / "data").mkdir(parents=True)
    onnx.save(
        models.mlp(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="data/weights.bin",
        size_threshold=0,
    )
    return folder / "model.onnx"


def test_external_files_are_read_on_demand_and_copied(external: Path, tmp_path: Path) -> None:
    x, inside = numbers(N, 6), open_network(models.mlp())
    network = open_anything(external)
    close(network.predict(x), inside.predict(x))
    layer = network.layers()["fc1"]
    assert np.array_equal(layer.weight, inside.layers()["fc1"].weight)
    cut = network.cut("fc1", x)
    close(cut.tail(cut.output), inside.predict(x))
    changed = network.replace({"fc1": -layer.weight})
    target = tmp_path / "to"
    target.mkdir()
    save(changed.native, target / "purified.onnx")
    data, model = sorted(target.iterdir(), key=lambda path: path.suffix)
    assert re.fullmatch(r"purified\.onnx\.[0-9a-f]{16}\.data", data.name)
    assert model.name == "purified.onnx"
    checker.check_model(target / "purified.onnx", full_check=True)
    before = tensors(onnx.load(external))
    after = tensors(onnx.load(target / "purified.onnx"))
    assert [name for name in before if before[name] != after[name]] == ["fc1.weight"]
    # Nothing but the tensors that still lie outside, each where the format likes it.
    held = onnx.load(target / "purified.onnx", load_external_data=False).graph.initializer
    outside = [each for each in held if each.data_location == TensorProto.EXTERNAL]
    lengths = [len(numpy_helper.to_array(each, str(target)).tobytes()) for each in outside]
    assert data.stat().st_size == sum(64 * -(-each // 64) for each in lengths[:-1]) + lengths[-1]
    truth = inside.replace({"fc1": -layer.weight}).predict(x)
    close(open_anything(target / "purified.onnx").predict(x), truth)
    # Beside the original it has a name of its own all the same.
    save(changed.native, external.parent / "purified.onnx")
    close(open_anything(external.parent / "purified.onnx").predict(x), truth)


def test_a_bare_proto_does_not_know_its_folder(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    with pytest.raises(ModelError, match=r"open the file with flain_onnx.load\(path\)"):
        open_network(proto)


def test_missing_short_and_foreign_external_files_are_refused(external: Path) -> None:
    data = external.parent / "data" / "weights.bin"
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(WeightsError, match="which has 100; the file is damaged"):
        load(external)
    data.unlink()
    with pytest.raises(WeightsError, match="does not exist; keep the model together"):
        load(external)
    outside = external.parents[1] / "outside.bin"
    outside.write_bytes(content)
    data.symlink_to(outside)
    with pytest.raises(WeightsError, match="outside the model's folder"):
        load(external)
    proto = onnx.load(external, load_external_data=False)
    inside = external.parent / "weights.bin"
    inside.write_bytes(content)
    around = f"../{external.parent.name}/weights.bin"
    for location in ("../outside.bin", str(outside), str(inside), around):
        for each in proto.graph.initializer:
            each.external_data[0].value = location
        external.write_bytes(proto.SerializeToString())
        with pytest.raises(WeightsError, match="outside the model's folder"):
            load(external)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    content = models.mlp().SerializeToString()
    garbage = np.random.default_rng(0).bytes(500)
    for damaged in (b"", b"garbage", garbage, content[: len(content) // 2], content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model.onnx: "):
            load(path)
    with pytest.raises(flain.ModelError, match="there is no such file"):
        flain.purify(tmp_path / "none.onnx", initial=path, data=(numbers(3, 6), [0, 1, 2]))


# The embedded example


def converted(network: flain_numpy.Network) -> ModelProto:
    nodes, stored, last = [], {}, "x"
    for index, operation in enumerate(network.operations):
        out, kind = f"v{index}", type(operation).__name__
        inputs = [last]
        if kind in ("Dense", "Conv2d"):
            inputs += [f"{operation.name}.weight", f"{operation.name}.bias"]
            stored |= {f"{operation.name}__weight": operation.weight}
            stored |= {f"{operation.name}__bias": operation.bias}
        options: dict[str, Any] = {
            "Dense": {"op_type": "Gemm", "transB": 1},
            "Conv2d": {"op_type": "Conv", "pads": [1, 1, 1, 1]},
            "MaxPool2d": {"op_type": "MaxPool", "kernel_shape": [2, 2], "strides": [2, 2]},
            "ReLU": {"op_type": "Relu"},
            "Flatten": {"op_type": "Flatten"},
        }[kind]
        nodes.append(node(inputs=inputs, outputs=[out], **options))
        last = out
    return models.model(nodes, [value("x", "n", 1, 28, 28)], [value(last, "n", 10)], **stored)


def test_the_embedded_example_is_purified_as_in_numpy(tmp_path: Path) -> None:
    networks = {name: flain_numpy.load(EXAMPLE / f"{name}.npz") for name in ("final", "initial")}
    for name, network in networks.items():
        onnx.save(converted(network), tmp_path / f"{name}.onnx")
    expected = flain.purify(
        networks["final"], initial=networks["initial"], data=EXAMPLE / "auxiliary.npz"
    )
    result = flain.purify(
        tmp_path / "final.onnx", initial=tmp_path / "initial.onnx", data=EXAMPLE / "auxiliary.npz"
    )
    (outcome,), (wanted,) = result.layers, expected.layers
    assert outcome.method == "incremental"
    assert outcome.name == wanted.name == "fc1"
    assert np.array_equal(outcome.flipped, wanted.flipped)
    assert outcome.threshold == pytest.approx(wanted.threshold, rel=1e-5)
    assert result.after.clean == expected.after.clean
    result.save(tmp_path / "purified.onnx")
    written = open_anything(tmp_path / "purified.onnx").layers()["fc1"].weight
    # What enters the layer is rounded otherwise in the two engines.
    np.testing.assert_allclose(written, expected.model.layers()["fc1"].weight, rtol=0, atol=1e-6)
    assert {"onnx", "onnxruntime"} <= set(result.versions)


def test_protos_are_purified_layer_by_layer_as_in_numpy() -> None:
    initial, final = (flain_numpy.load(EXAMPLE / f"{name}.npz") for name in ("initial", "final"))
    given = converted(final)
    options: dict[str, Any] = {
        "data": EXAMPLE / "auxiliary.npz",
        "layers": ["conv2", "fc1"],
        "settings": BY_NEURONS,
    }
    expected = flain.purify(final, initial=initial, **options)
    result = flain.purify(given, initial=converted(initial), **options)
    assert isinstance(result.model, ModelProto)
    assert given.SerializeToString() == converted(final).SerializeToString()
    for outcome, wanted in zip(result.layers, expected.layers, strict=True):
        assert outcome.method == "incremental"
        assert np.array_equal(outcome.flipped, wanted.flipped)
    ours, theirs = open_network(result.model).layers(), expected.model.layers()
    assert all(np.array_equal(ours[name].weight, theirs[name].weight) for name in theirs)


def two_branches(*, first: str, seed: int) -> ModelProto:
    """Two layers of one shape beside each other; the file lists ``first`` first."""
    nodes = {
        "left": node("MatMul", ["x", f"left{seed}"], ["l"]),
        "right": node("MatMul", ["x", f"right{seed}"], ["r"]),
    }
    second = next(name for name in nodes if name != first)
    return models.model(
        [
            *(nodes[first], nodes[second], node("Relu", ["l"], ["a"]), node("Tanh", ["r"], ["t"])),
            *(node("Add", ["a", "t"], ["h"]), node("MatMul", ["h", f"head{seed}"], ["scores"])),
        ],
        [models.value("x", "n", 6)],
        [models.value("scores", "n", 5)],
        **{
            f"left{seed}": numbers(6, 9, seed=seed),
            f"right{seed}": numbers(6, 9, seed=seed + 1),
            f"head{seed}": numbers(9, 5, seed=seed + 2),
        },
    )


@pytest.mark.parametrize("final_first", ["left", "right"])
@pytest.mark.parametrize("initial_first", ["left", "right"])
def test_parallel_branches_are_paired_in_whatever_order_they_are_listed(
    final_first: str, initial_first: str
) -> None:
    final = two_branches(first=final_first, seed=1)
    initial = open_network(two_branches(first=initial_first, seed=4), like=final).layers()
    assert list(initial) == list(open_network(final).layers())
    for name, seed in (("left1", 4), ("right1", 5)):
        np.testing.assert_array_equal(initial[name].weight, numbers(6, 9, seed=seed).T)


def test_arrays_are_told_to_go_into_models(tmp_path: Path) -> None:
    save(CASES["mlp"].build(), tmp_path / "model.onnx")
    x = CASES["mlp"].batch()
    for model in (CASES["mlp"].build(), load(tmp_path / "model.onnx"), tmp_path / "model.onnx"):
        with pytest.raises(ModelError, match=r"flain_onnx offers no arrays_of.*flain\.purify"):
            flain.purify_arrays({}, {}, model, data=(x, np.zeros(N, int)))


def test_a_network_that_was_pickled_is_the_same_one() -> None:
    final, initial = models.mlp(), renamed_mlp()
    network = open_network(initial, like=final)
    changed = network.replace({"fc1": numbers(9, 6, seed=3)})
    arrived = pickle.loads(pickle.dumps(changed))
    assert list(arrived.layers()) == ["fc1", "fc2"]
    x = numbers(N, 6, seed=9)
    np.testing.assert_array_equal(arrived.predict(x), changed.predict(x))
    assert arrived.native == changed.native


def renamed_mlp() -> ModelProto:
    model = models.mlp()
    for tensor in model.graph.initializer:
        for each in model.graph.node:
            each.input[:] = [f"other_{tensor.name}" if i == tensor.name else i for i in each.input]
        tensor.name = f"other_{tensor.name}"
    return model


def test_the_places_of_inputs_show_as_in_numpy() -> None:
    with np.load(EXAMPLE / "auxiliary.npz") as data:
        x = data["x"][:16]
    grids = []
    for suffix in (".npz", ".onnx"):
        network = open_anything(EXAMPLE / f"final{suffix}")
        grids.append(find_grid(network, network.layers()["fc1"], x))
    assert grids == [InputGrid(channels=32, rows=7, columns=7)] * 2
