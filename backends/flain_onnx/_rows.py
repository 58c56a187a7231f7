"""Which nodes treat every row of a matrix by itself, whatever other rows there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from onnx import NodeProto, TensorProto, helper

__all__ = ["row_by_row"]

_OF_ONE_NUMBER = {
    *("Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Mish", "HardSwish", "HardSigmoid", "Softplus"),
    *("Tanh", "Sigmoid", "Erf", "Exp", "Neg", "Abs", "Identity", "Cast"),
}
_OF_TWO_NUMBERS = {"Add", "Sub", "Mul", "Div"}
_ALONG_ROWS = {"Softmax", "LogSoftmax"}


def row_by_row(
    nodes: Iterable[NodeProto], changing: Collection[str], tensors: Mapping[str, TensorProto]
) -> bool:
    """Whether each node makes of matrices a matrix whose rows depend on the same rows alone.

    Only what is known is taken: besides matrices that change, they read stored tensors alone.

    Args:
        nodes: The nodes.
        changing: The values with a row for each sample.
        tensors: Stored tensors by name.
    """
    return all(_is_row_by_row(node, changing, tensors) for node in nodes)


def _is_row_by_row(
    node: NodeProto, changing: Collection[str], tensors: Mapping[str, TensorProto]
) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _OF_TWO_NUMBERS:
        return _each_number(node, changing, tensors)
    if node.input[0] not in changing:
        return False
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    others = [name for name in node.input[1:] if name]
    stored = [len(tensors[name].dims) if name in tensors else -1 for name in others]
    if node.op_type == "Gemm":
        return not attributes.get("transA") and stored in ([2], [2, 1], [2, 0])
    if node.op_type == "MatMul":
        return stored == [2]
    if node.op_type in _ALONG_ROWS:
        return attributes.get("axis", 1) in (1, -1)
    return node.op_type in _OF_ONE_NUMBER and not others


def _each_number(
    node: NodeProto, changing: Collection[str], tensors: Mapping[str, TensorProto]
) -> bool:
    return all(
        name in changing or (name in tensors and len(tensors[name].dims) <= 1)
        for name in node.input
    )
