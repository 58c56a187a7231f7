"""Finds the bias of a layer: an input of its node, or added by the node that follows."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, TensorProto, numpy_helper

from ._external import is_external
from ._forms import Form
from ._graph import Graph
from ._model import FLOATS
from ._stored import Stored, attribute, stored_behind

_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True, eq=False)
class Bias:
    """A stored bias that this layer alone uses.

    It arrives as ``(out,)`` or ``(1, out)``; as ``(out, 1)`` where the weight is the left matrix.
    """

    stored: Stored
    output: str
    """The name of the layer's output once the bias is in it, or before it is arranged for that."""


def bias_of(
    graph: Graph, node: NodeProto, form: Form, shape: tuple[int, ...], element: int
) -> Bias | None:
    """Return the bias of a layer; None if it has none, or none that can be replaced.

    ``shape`` is that of its weight, ``(out, in / groups, *kernel)``; ``element`` is the type that
    the layer computes in.
    """
    found = _read_or_added(graph, node, form, shape[0], element)
    if found is None:
        return None
    value, output = found
    stored = stored_behind(graph, value)
    if stored is None or stored.shared or stored.name not in graph.writable:
        return None
    out = shape[0]
    # One of more axes could give the sum more axes than the product has.
    fits = stored.shape in ([(out, 1)] if form.weight_at == 0 else [(out,), (1, out)])
    is_float = stored.tensor.data_type in FLOATS and stored.element in FLOATS
    return Bias(stored, output) if fits and is_float else None


def _read_or_added(
    graph: Graph, node: NodeProto, form: Form, out: int, element: int
) -> tuple[str, str] | None:
    """Return the names of the bias and of the layer's output."""
    output = node.output[0]
    if len(node.input) > 2 and node.input[2]:
        # A multiple of what is stored is computed.
        scaled = node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0
        return None if scaled else (node.input[2], output)
    if node.op_type != "MatMul":
        return None
    reader = _only_reader(graph, output)
    # Keras exports casts to the type that is there already.
    while reader and reader.op_type == "Cast" and attribute(reader, "to", 0) == element:
        output = reader.output[0]
        reader = _only_reader(graph, output)
    arranged = output
    # TensorFlow multiplies tokens as rows of one matrix, and puts them back in their samples.
    if reader and reader.op_type == "Reshape" and form.weight_at == 1:
        if _last_of(graph, reader.input[-1]) != out:
            return None
        arranged = reader.output[0]
        reader = _only_reader(graph, arranged)
    if reader is None or reader.op_type != "Add":
        return None
    (added,) = (name for name in reader.input if name != arranged)
    return added, reader.output[0] if arranged == output else output


def _last_of(graph: Graph, shape: str) -> int | None:
    """Return the last entry of a shape; None where it is not stored."""
    while shape not in graph.tensors:
        index = graph.producer.get(shape)
        node = None if index is None else graph.nodes[index]
        if node is None or node.op_type not in ("Cast", "Concat"):
            return None
        shape = node.input[-1]
    stored = graph.tensors[shape]
    if stored.data_type not in _INTEGERS or is_external(stored):
        return None
    entries = numpy_helper.to_array(stored).ravel()
    return int(entries[-1]) if entries.size else None


def _only_reader(graph: Graph, value: str) -> NodeProto | None:
    """Return the one node of ONNX's own that reads the numbers of a value; None if others do."""
    if graph.uses[value] != 1:
        return None
    for node in (graph.nodes[index] for index in graph.readers[value]):
        if node.op_type in ("Add", "Cast", "Reshape") and node.domain in ("", "ai.onnx"):
            return node
    return None
