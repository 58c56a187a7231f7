"""The layers of two ONNX exports are paired, whatever their names and their order."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import ModelProto, checker, numpy_helper
from onnx_cases import N, folded, renamed
from onnx_models import node, numbers, value

from flain_core.errors import WeightsError
from flain_core.opening.registry import open_network as open_anything
from flain_onnx import open_network


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
