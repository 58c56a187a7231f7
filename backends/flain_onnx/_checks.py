"""Looks at a model before anything walks through it or runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from flain_core.errors import ModelError

from ._walk import all_nodes, all_tensors, graphs

_MOST_ELEMENTS = 2**48
_KNOWN = frozenset(TensorProto.DataType.values())
_QUANTIZED = re.compile(
    r"^(QuantizeLinear|DequantizeLinear|DynamicQuantize.*|QLinear.*|QGemm|QAttention"
    r"|MatMulInteger.*|ConvInteger|MatMulNBits|MatMulBnb4|QMoE)$"
)


def check_fields(model: ModelProto) -> None:
    """Make sure that names are text, and that tensors are of a known type and a possible shape.

    Raises:
        ModelError: They are not.
    """
    for text in _texts(model):
        # Protobuf hands out as bytes what is no UTF-8.
        if not isinstance(text, str):
            raise ModelError(f"the model has a name that is no text, {text!r}; export it again")
    for tensor in all_tensors(model):
        if not isinstance(tensor.name, str):
            raise ModelError(
                f"the model has a tensor whose name is no text, {tensor.name!r}; export it again"
            )
        if tensor.data_type not in _KNOWN:
            raise ModelError(
                f"the tensor {tensor.name!r} is of the data type {tensor.data_type}, which ONNX "
                "does not know; export the model again"
            )
        dims = tuple(tensor.dims)
        if any(size < 0 for size in dims) or prod(dims) > _MOST_ELEMENTS:
            raise ModelError(
                f"the tensor {tensor.name!r} has the shape {dims}, which no tensor can have; "
                "export the model again"
            )


def check_not_quantized(model: ModelProto) -> None:
    """Raise :class:`ModelError` if the model computes with quantized numbers."""
    for node in all_nodes(model.graph):
        if _QUANTIZED.match(node.op_type):
            raise ModelError(
                f"the model is quantized (it contains {node.op_type}); a flipped weight, twice the "
                "initial one minus the final one, can leave the range that its scale allows; "
                "purify the float model, then quantize the result"
            )


def _texts(model: ModelProto) -> Iterator[object]:
    parts: list[GraphProto | FunctionProto] = [*graphs(model), *model.functions]
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
    for graph in graphs(model):
        yield from (each.name for each in (*graph.input, *graph.output))
    for part in parts:
        for node in all_nodes(part):
            yield from _texts_of(node)


def _texts_of(node: NodeProto) -> Iterator[object]:
    yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
    for attribute in node.attribute:
        yield attribute.name
        for graph in (attribute.g, *attribute.graphs):
            yield from (each.name for each in (*graph.input, *graph.output))
