"""The bias of an ONNX layer is found wherever exporters put it, and nothing else passes for one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_cases import N, close
from onnx_models import node, numbers, tensors, value

import flain_core as flain
from flain_core.errors import WeightsError
from flain_onnx import OnnxModel, open_network


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
