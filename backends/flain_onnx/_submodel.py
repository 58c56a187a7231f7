"""A part of a model as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, ValueInfoProto

from ._graph import Graph

__all__ = ["submodel"]


def submodel(graph: Graph, outputs: Sequence[str], given: Mapping[str, int]) -> ModelProto:
    """The part that computes ``outputs``.

    Args:
        graph: The whole.
        outputs: Names of values.
        given: Values that are fed instead of computed or stored, with their element types.
    """
    part = ModelProto()
    whole = graph.model
    # Before version 4 every initializer had to be an input as well.
    part.ir_version = max(whole.ir_version, 4)
    part.opset_import.extend(whole.opset_import)
    part.graph.name = whole.graph.name or "part"
    indices = graph.needed(outputs, given)
    part.graph.node.extend(graph.nodes[index] for index in indices)
    read = {name for index in indices for name in graph.reads[index]} | set(outputs)
    for name, value in graph.inputs.items():
        if name in read and name not in given:
            part.graph.input.append(value)
    for name, element in given.items():
        if name in read:
            # Without a shape: it may differ from batch to batch, and the operators infer it.
            value = ValueInfoProto(name=name)
            value.type.tensor_type.elem_type = element
            part.graph.input.append(value)
    part.graph.initializer.extend(
        tensor for name, tensor in graph.initializers.items() if name in read and name not in given
    )
    part.graph.sparse_initializer.extend(
        tensor for tensor in whole.graph.sparse_initializer if tensor.values.name in read
    )
    # The runtime infers their types.
    part.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    return part
