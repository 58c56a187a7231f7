"""Every layer of an ONNX graph is cut, and the cut answers as the whole model does."""

from __future__ import annotations

import numpy as np
import onnx_models as models
import pytest
from onnx import ModelProto, checker, numpy_helper
from onnx_cases import CASES, Case, N, close
from onnx_models import numbers

from flain_core.errors import WeightsError
from flain_core.network import Cut, Network
from flain_onnx import open_network

every_layer = pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, layer, id=f"{title}: {layer}")
        for title, case in CASES.items()
        for layer in case.layers
    ],
)


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
