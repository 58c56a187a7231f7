"""ONNX models whose authors meant harm end in one clear error, and soon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models as models
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_models import node, numbers, value

import flain_core as flain
from flain_core.errors import ModelError, WeightsError
from flain_core.storage.limits import MEMORY, TIME
from flain_onnx import load, open_network
from flain_onnx._graph import Graph
from flain_onnx._names import layer_names

RELU = node("Relu", ["a"], ["r"])
ANY = helper.make_tensor_value_info("any", TensorProto.FLOAT, None)


def made(*nodes: NodeProto, batch: int | str = "n", **tensors: np.ndarray) -> ModelProto:
    """6 → 4 → 3 with a weight ``w`` and the nodes between, unchecked."""
    first = node("Gemm", ["x", "w", "fc1.bias"], ["a"], transB=1)
    last = node("Gemm", ["r", "fc2.weight"], ["scores"], transB=1)
    held = {"fc1.weight": numbers(4, 6), "fc1.bias": numbers(4), "fc2.weight": numbers(3, 4)}
    graph = helper.make_graph(
        [*nodes, first, *([] if any("r" in each.output for each in nodes) else [RELU]), last],
        "graph",
        [value("x", batch, 6)],
        [value("scores", batch, 3)],
        [numpy_helper.from_array(array, name) for name, array in {**held, **tensors}.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def body(*nodes: NodeProto, out: str = "o") -> Any:
    return helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info(out, 1, None)])


def choice(inside: Any) -> NodeProto:
    return node("If", ["cond"], ["r"], then_branch=inside, else_branch=inside)


WHOLE = node("Identity", ["fc1.weight"], ["w"])


@pytest.mark.parametrize(
    "between",
    [
        [node("Identity", ["w"], ["w"])],
        [node("Identity", ["v"], ["w"]), node("Transpose", ["w"], ["v"])],
        [node("Cast", ["v"], ["w"], to=1), node("Identity", ["u"], ["v"]), node("Relu", "w", "u")],
        [WHOLE, node("MatMul", ["a", "w2"], ["b"]), node("Cast", ["b"], ["b"], to=1)],
    ],
)
def test_nodes_that_read_each_other_in_a_circle(between: list[NodeProto]) -> None:
    with pytest.raises(ModelError, match=r"circle|two nodes"):
        open_network(made(*between, w2=numbers(4, 4)))


def test_a_circle_in_a_body() -> None:
    inside = body(node("Identity", ["q"], ["q"]), node("MatMul", ["a", "q"], ["o"]))
    with pytest.raises(ModelError, match="circle"):
        open_network(made(WHOLE, choice(inside), cond=np.array(True)))


def test_a_circle_through_a_body_that_names_a_value_anew() -> None:
    # Each graph is sorted; only who looks up names in both at once goes round.
    inside = body(node("Identity", ["q"], ["p"]), node("MatMul", ["a", "p"], ["o"]))
    network = open_network(
        made(
            WHOLE,
            node("Identity", ["p"], ["q"]),
            choice(inside),
            p=numbers(4, 4),
            cond=np.array(True),
        )
    )
    assert "fc2" in network.layers()


def test_nodes_in_another_order_are_sorted() -> None:
    sorted_ = made(WHOLE)
    mixed = models.retouched(sorted_, lambda model: model.graph.node.reverse())
    x = numbers(5, 6)
    ours, theirs = open_network(mixed), open_network(sorted_)
    assert list(ours.layers()) == list(theirs.layers()) == ["fc1", "fc2"]
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    cut = ours.cut("fc1", x)
    np.testing.assert_allclose(cut.tail(cut.output), theirs.predict(x), rtol=1e-6)


def calls(number: int) -> ModelProto:
    """Functions, each of which calls the one before twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = made(WHOLE, node("F0" if number == 0 else f"F{number - 1}", ["a"], ["r"], domain="own"))
    for index in range(number):
        operator = {"op_type": "Relu"} if not index else {"op_type": f"F{index - 1}"}
        twice = [
            helper.make_node(inputs=[a], outputs=[b], domain="own" if index else "", **operator)
            for a, b in ("ab", "bc")
        ]
        function = helper.make_function("own", f"F{index}", ["a"], ["c"], twice, opsets)
        model.functions.append(function)
    return model


def test_functions_that_double_are_counted_and_not_written_out() -> None:
    assert len(Graph(calls(5)).nodes) == 2**5 + 3
    with pytest.raises(ModelError, match=r"stand for 1,125,899,906,842,6.. nodes"):
        open_network(calls(50))


def test_functions_that_hold_much_are_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calls(10)
    model.functions[0].node.append(
        node("Constant", [], ["big"], value=numpy_helper.from_array(numbers(250_000)))
    )
    assert open_network(calls(10))
    monkeypatch.setenv(MEMORY, "0.25")
    with pytest.raises(ModelError, match=rf"asks for .* set {MEMORY}"):
        open_network(model)


@pytest.mark.parametrize("chain", ["F", "GF"])
def test_functions_that_call_themselves(chain: str) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = made(WHOLE, node("F", ["a"], ["r"], domain="own"))
    for name, called in zip("FG", chain, strict=False):
        call = helper.make_node(called, ["a"], ["c"], domain="own")
        model.functions.append(helper.make_function("own", name, ["a"], ["c"], [call], opsets))
    with pytest.raises(ModelError, match="calls itself"):
        open_network(model)


def endless(grows: bool = False) -> ModelProto:
    step = node("Concat", ["v0", "v0"], ["v1"], axis=0) if grows else node("Relu", ["v0"], ["v1"])
    inside = helper.make_graph(
        [node("Identity", ["c0"], ["c1"]), step],
        "body",
        [
            value("i", element=7),
            value("c0", element=9),
            helper.make_tensor_value_info("v0", 1, None),
        ],
        [value("c1", element=9), helper.make_tensor_value_info("v1", 1, None)],
    )
    return made(WHOLE, node("Loop", ["M", "", "a"], ["r"], body=inside), M=np.array(2**60))


def test_a_body_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIME, "0.3")
    network = open_network(endless())
    for run in (lambda: network.predict(numbers(4, 6)), lambda: network.cut("fc2", numbers(4, 6))):
        before = time.monotonic()
        with pytest.raises(ModelError, match=rf"longer than 0\.3 seconds .* set {TIME}"):
            run()
        assert time.monotonic() - before < 5


def test_a_body_that_doubles_what_it_has_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIME, "20")
    monkeypatch.setenv(MEMORY, "0.25")
    before = time.monotonic()
    with pytest.raises(ModelError, match=rf"more than 0\.2 GiB of memory .* set {MEMORY}"):
        open_network(endless(grows=True)).predict(numbers(4, 6))
    assert time.monotonic() - before < 15


def test_a_forked_process_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIME, "0.3")
    assert open_network(made(WHOLE)).predict(numbers(4, 6)).shape == (4, 3)
    child = os.fork()
    if not child:
        try:
            open_network(endless()).predict(numbers(4, 6))
        except ModelError:
            os._exit(7)
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("batch", [2**20, 2**31, 2**40])
def test_a_batch_is_not_filled_up_without_limit(batch: int) -> None:
    network = open_network(made(WHOLE, batch=batch))
    with pytest.raises(ModelError, match=f"takes {batch:,} samples at once"):
        network.predict(numbers(4, 6))


@pytest.mark.parametrize("batch", [-1, -5])
def test_an_axis_below_0_is_free(batch: int) -> None:
    network = open_network(made(WHOLE, batch=batch))
    truth = open_network(made(WHOLE)).predict(numbers(5, 6))
    np.testing.assert_array_equal(network.predict(numbers(5, 6)), truth)


def retouched(field: Callable[[TensorProto], None]) -> ModelProto:
    return models.retouched(made(WHOLE), lambda model: field(model.graph.initializer[0]))


def named(field: str) -> ModelProto:
    """A model in which a name is no UTF-8."""
    content = made(WHOLE).SerializeToString()
    return ModelProto.FromString(content.replace(field.encode(), b"\xff" * len(field)))


STRANGE: dict[str, tuple[ModelProto, str]] = {
    "data type": (retouched(lambda each: setattr(each, "data_type", 999)), "data type 999"),
    "size -1": (retouched(lambda each: each.dims.__setitem__(0, -1)), r"shape \(-1, 6\)"),
    "size 2**62": (retouched(lambda each: each.dims.__setitem__(0, 2**62)), "no tensor can have"),
    "tensor's name": (named("fc1.weight"), "no text"),
    "bias's name": (named("fc1.bias"), "no text"),
    "operator's name": (named("Relu"), "no text"),
    "input's name": (named("x"), "no text|cannot be understood"),
    "no input": (made(node("Identity", [], ["w"])), "IndexError"),
    "cast to text": (made(node("Cast", ["fc1.weight"], ["w"], to="zzz")), "ValueError"),
    **{
        f"permutation {perm}": (
            made(node("Transpose", ["fc1.weight"], ["w"], perm=perm)),
            "orders",
        )
        for perm in ([0, 5], [0], [0, 0], [-1, 0], [1, 0, 2])
    },
}


@pytest.mark.parametrize("which", STRANGE)
def test_strange_fields_are_one_clear_error(which: str) -> None:
    model, words = STRANGE[which]
    with pytest.raises(ModelError, match=words):
        open_network(model)


def test_a_shape_that_the_numbers_do_not_fill() -> None:
    with pytest.raises(WeightsError, match="cannot read the weight"):
        open_network(retouched(lambda each: each.dims.__setitem__(0, 2**31))).layers()


def test_a_cast_to_an_unknown_type_is_named() -> None:
    network = open_network(made(node("Cast", ["fc1.weight"], ["w"], to=999)))
    assert "type 999" in network.refused_layers()["fc1"]


@pytest.mark.parametrize(
    "spoil", [lambda kind: kind.Clear(), lambda kind: setattr(kind, "elem_type", 999)]
)
def test_an_input_without_a_known_type(spoil: Callable[[Any], None]) -> None:
    model = models.retouched(
        made(WHOLE), lambda model: spoil(model.graph.input[0].type.tensor_type)
    )
    network = open_network(model)
    with pytest.raises(ModelError):
        network.predict(numbers(4, 6))


@pytest.mark.parametrize("location", ["a\0b", "a" * 5000, "loop", "a/" * 300])
def test_external_files_that_cannot_be(location: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    def place(each: TensorProto) -> None:
        each.ClearField("raw_data")
        each.data_location = TensorProto.EXTERNAL
        each.external_data.add(key="location", value=location)

    path = tmp_path / "model.onnx"
    path.write_bytes(retouched(place).SerializeToString())
    with pytest.raises(WeightsError, match=r"model\.onnx: the tensor 'fc1.weight'"):
        load(path)
    bad = path.read_bytes().replace(location.encode(), b"\xff" * len(location))
    path.write_bytes(bad)
    with pytest.raises((WeightsError, ModelError), match=r"model\.onnx"):
        load(path)


def test_many_layers_of_one_name_are_named_soon() -> None:
    same = node("Gemm", ["x", "onnx::1"], ["y"], name="same")
    before = time.monotonic()
    names = layer_names([(same, "onnx::1")] * 30_000)
    assert time.monotonic() - before < 3
    assert names[:3] == ["same", "same_2", "same_3"]
    assert len(set(names)) == len(names)


def test_a_node_of_many_inputs_is_walked_soon() -> None:
    many = [node("Relu", ["x"], [f"v{index}"]) for index in range(20_000)]
    joined = node("Concat", [each.output[0] for each in many], ["r0"], axis=1)
    model = made(WHOLE, *many, joined)
    model.graph.node[-1].input[0] = "r0"
    before = time.monotonic()
    assert len(Graph(model).branch_by_branch()) == len(model.graph.node)
    assert time.monotonic() - before < 3


def test_a_note_that_nests_without_end_is_no_name() -> None:
    for note in ("[" * 5000, "[" * 10**6, "-" * 9000 + "1", "b'x'", "{}"):
        model = made(WHOLE)
        model.graph.node[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=note)
        assert "fc1" in open_network(model).layers()


def test_all_of_it_ends_in_one_line_of_purify() -> None:
    data = numbers(40, 6), np.arange(40) % 3
    for model, _ in STRANGE.values():
        with pytest.raises(flain.FlainError):
            flain.purify(model, initial=made(WHOLE), data=data)
