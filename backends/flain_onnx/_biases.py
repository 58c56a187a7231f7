"""Finds the bias of a layer: an input of its node, or added by the node that follows."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from ._forms import Form
from ._graph import Graph
from ._model import FLOATS
from ._stored import Stored, attribute, stored_behind


@dataclass(frozen=True, eq=False)
class Bias:
    """A stored bias that this layer alone uses.

    It arrives as ``(out,)`` or ``(1, out)``; as ``(out, 1)`` where the weight is the left matrix.
    """

    stored: Stored
    output: str
    """The name of the layer's output once the bias is in it."""


def bias_of(
    graph: Graph, node: NodeProto, form: Form, shape: tuple[int, ...], element: int
) -> Bias | None:
    """Return the bias of a layer; None if it has none, or none that can be replaced.

    ``shape`` is that of its weight, ``(out, in / groups, *kernel)``; ``element`` is the type that
    the layer computes in.
    """
    found = _read_or_added(graph, node, element)
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


def _read_or_added(graph: Graph, node: NodeProto, element: int) -> tuple[str, str] | None:
    """Return the names of the bias and of the value with the bias in it."""
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
    if reader is None or reader.op_type != "Add":
        return None
    (added,) = (name for name in reader.input if name != output)
    return added, reader.output[0]


def _only_reader(graph: Graph, value: str) -> NodeProto | None:
    """Return the one node of ONNX's own that reads the numbers of a value; None if others do."""
    if graph.uses[value] != 1:
        return None
    for node in (graph.nodes[index] for index in graph.readers[value]):
        if node.op_type in ("Add", "Cast") and node.domain in ("", "ai.onnx"):
            return node
    return None
