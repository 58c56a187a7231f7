"""Knows which nodes treat every row of a matrix by itself, whatever other rows there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onnx import NodeProto, TensorProto

from ._stored import attribute

_OF_ONE_NUMBER = {
    *("Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Mish", "HardSwish", "HardSigmoid", "Softplus"),
    *("Tanh", "Sigmoid", "Erf", "Exp", "Neg", "Abs", "Identity", "Cast"),
}
_OF_TWO_NUMBERS = {"Add", "Sub", "Mul", "Div"}
_ALONG_ROWS = {"Softmax", "LogSoftmax"}


def row_by_row(
    node: NodeProto, changing: Collection[str], tensors: Mapping[str, TensorProto]
) -> bool:
    """Tell whether a node makes of matrices a matrix whose rows depend on the same rows alone.

    Only what is known is taken: besides matrices that change, it reads stored tensors alone.

    Args:
        node: The node.
        changing: The values with a row for each sample.
        tensors: Stored tensors by name.
    """
    axes = {name: len(tensors[name].dims) for name in node.input if name in tensors}
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _OF_TWO_NUMBERS:
        return all(name in changing or axes.get(name, 2) <= 1 for name in node.input)
    if node.input[0] not in changing:
        return False
    others = [axes.get(name, -1) for name in node.input[1:] if name]
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0) and others in ([2], [2, 1], [2, 0])
    if node.op_type == "MatMul":
        return others == [2]
    if node.op_type in _ALONG_ROWS:
        return attribute(node, "axis", 1) in (1, -1)
    return node.op_type in _OF_ONE_NUMBER and not others
