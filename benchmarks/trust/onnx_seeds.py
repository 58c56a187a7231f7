"""Small ONNX models of many kinds of nodes, to be mutated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, external_data_helper, helper, numpy_helper

_node = helper.make_node


def models() -> list[bytes]:
    """Return models with one input ``x`` and one output ``scores``, serialized."""
    makers = (_dense, _images, _hidden, _bodies, _functions, _sequences)
    return [bytes(make().SerializeToString()) for make in makers]


def with_external_data() -> tuple[bytes, bytes]:
    """Return a model, and the content of ``m.data``, in which its tensors lie."""
    model = _dense()
    parts, offset = [], 0
    for tensor in model.graph.initializer:
        content = tensor.raw_data
        external_data_helper.set_external_data(tensor, "m.data", offset, len(content))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        parts.append(content)
        offset += len(content)
    return bytes(model.SerializeToString()), b"".join(parts)


def _numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def _model(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str],
    tensors: dict[str, np.ndarray[Any, Any]],
    functions: Sequence[Any] = (),
) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def _dense() -> Any:
    nodes = [
        _node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["z"], transB=1),
        _node("Relu", ["z"], ["a"]),
        _node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["scores"], transB=1),
    ]
    held = {"fc1.weight": _numbers(4, 6), "fc1.bias": _numbers(4)}
    held |= {"fc2.weight": _numbers(3, 4), "fc2.bias": _numbers(3)}
    return _model(nodes, ["n", 6], held)


def _images() -> Any:
    nodes = [
        _node("Conv", ["x", "conv.weight"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        _node("BatchNormalization", ["c", "one", "zero", "zero", "one"], ["b"]),
        _node("Relu", ["b"], ["r"]),
        _node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        _node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([-1, 8]))),
        _node("Reshape", ["m", "shape"], ["f"]),
        _node("MatMul", ["f", "head"], ["p"]),
        _node("Add", ["p", "bias"], ["scores"]),
    ]
    held = {"conv.weight": _numbers(2, 1, 3, 3), "head": _numbers(8, 3), "bias": _numbers(3)}
    held |= {"one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)}
    return _model(nodes, [2, 1, 4, 4], held)


def _hidden() -> Any:
    nodes = [
        _node("Transpose", ["w"], ["t"], perm=[1, 0]),
        _node("Identity", ["t"], ["i"]),
        _node("Cast", ["half"], ["full"], to=1),
        _node("MatMul", ["x", "i"], ["z"]),
        _node("Tanh", ["z"], ["a"]),
        _node("Gemm", ["a", "full"], ["scores"], alpha=0.5),
    ]
    return _model(nodes, ["n", 6], {"w": _numbers(4, 6), "half": _numbers(4, 3).astype(np.float16)})


def _bodies() -> Any:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inside = helper.make_graph([_node("MatMul", ["z", "inner"], ["o"])], "body", [], [out])
    nodes = [
        _node("MatMul", ["x", "w"], ["z"]),
        _node("If", ["cond"], ["y"], then_branch=inside, else_branch=inside),
        _node("MatMul", ["y", "v"], ["scores"]),
    ]
    held = {"w": _numbers(6, 4), "inner": _numbers(4, 5), "v": _numbers(5, 3)}
    return _model(nodes, ["n", 6], held | {"cond": np.array(True)})


def _functions() -> Any:
    opsets = [helper.make_opsetid("", 17)]
    body = [_node("MatMul", ["a", "b"], ["c"]), _node("Relu", ["c"], ["d"])]
    function = helper.make_function("own", "Block", ["a", "b"], ["d"], body, opsets)
    nodes = [
        _node("Block", ["x", "w"], ["z"], domain="own"),
        _node("Block", ["z", "v"], ["y"], domain="own"),
        _node("Softmax", ["y"], ["scores"], axis=-1),
    ]
    return _model(nodes, ["n", 6], {"w": _numbers(6, 4), "v": _numbers(4, 3)}, [function])


def _sequences() -> Any:
    nodes = [
        _node("MatMul", ["x", "embed"], ["z"]),
        _node("LayerNormalization", ["z", "scale"], ["l"], axis=-1),
        _node("ReduceMean", ["l"], ["m"], axes=[1], keepdims=0),
        _node("Gather", ["m", "order"], ["g"], axis=1),
        _node("MatMul", ["g", "head"], ["scores"]),
    ]
    held = {"embed": _numbers(6, 4), "scale": _numbers(4), "head": _numbers(4, 3)}
    return _model(nodes, ["n", 5, 6], held | {"order": np.array([3, 1, 0, 2])})
