"""ONNX models, layers and weights that cannot be purified are refused with a reason."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_cases import CASES, N, folded, renamed
from onnx_models import node, numbers, value

import flain_core as flain
from flain_core.errors import LayerError, ModelError, WeightsError
from flain_onnx import load, open_network, save


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


def test_arrays_are_told_to_go_into_models(tmp_path: Path) -> None:
    save(CASES["mlp"].build(), tmp_path / "model.onnx")
    x = CASES["mlp"].batch()
    for model in (CASES["mlp"].build(), load(tmp_path / "model.onnx"), tmp_path / "model.onnx"):
        with pytest.raises(ModelError, match=r"flain_onnx offers no arrays_of.*flain\.purify"):
            flain.purify_arrays({}, {}, model, data=(x, np.zeros(N, int)))


@pytest.mark.parametrize(("operator", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_are_refused(operator: str, gates: int) -> None:
    weights = {"steps.W": (1, gates * 5, 6), "steps.R": (1, gates * 5, 5), "head.weight": (5, 3)}
    stored = [numpy_helper.from_array(numbers(*shape), name) for name, shape in weights.items()]
    nodes = [
        helper.make_node("Transpose", ["x"], ["by step"], perm=[1, 0, 2]),
        helper.make_node(
            operator, ["by step", "steps.W", "steps.R"], ["", "last"], name="steps", hidden_size=5
        ),
        helper.make_node("Squeeze", ["last", "first axis"], ["seen"]),
        helper.make_node("MatMul", ["seen", "head.weight"], ["scores"]),
    ]
    stored.append(numpy_helper.from_array(np.array([0]), "first axis"))
    graph = helper.make_graph(
        nodes, "g", [value("x", "n", 4, 6)], [value("scores", "n", 3)], stored
    )
    network = open_network(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert list(network.layers()) == ["head"]
    (reason,) = network.refused_layers().values()
    assert "recurrent" in reason
    with pytest.raises(LayerError, match="recurrent"):
        network.cut(next(iter(network.refused_layers())), numbers(N, 4, 6))
