"""Walks through all of a model: its graph, its functions, and the bodies in both."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the outermost graphs."""
    yield model.graph
    for training in model.training_info:
        yield training.initialization
        yield training.algorithm


def all_nodes(part: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield every node, those in bodies too."""
    for node in part.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in a node's attributes, which it runs any number of times."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor, wherever it lies."""
    for graph in graphs(model):
        yield from _tensors_of(graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_in(node)
        for attribute in function.attribute_proto:
            yield from _values_of(attribute)


def _tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _tensors_in(node)


def _tensors_in(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        yield from _values_of(attribute)


def _values_of(attribute: AttributeProto) -> Iterator[TensorProto]:
    # Whatever type it says that it has: a reader may look at any field.
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for sparse in (*single, *attribute.sparse_tensors):
        yield sparse.values
        yield sparse.indices
    for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        yield from _tensors_of(body)
