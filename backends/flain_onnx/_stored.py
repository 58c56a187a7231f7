"""From the weight that a node reads back to the tensor that is stored, and forth again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from flain_core.network import Array

from ._graph import Graph

__all__ = ["Stored", "attribute", "stored_behind"]

_FOLLOWED = ("Identity", "Transpose", "Cast")


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored tensor on its way to a node.

    Attributes:
        name: Of its value.
        tensor: The initializer, or the value of a ``Constant`` node.
        axes: The order of its axes in which it arrives.
        element: The element type in which it arrives.
        shared: Whether something else reads it, or what is made of it on the way, too.
    """

    name: str
    tensor: TensorProto
    axes: tuple[int, ...]
    element: int
    shared: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in which it arrives."""
        return tuple(self.tensor.dims[axis] for axis in self.axes)

    def arriving(self, array: Array) -> Array:
        """What the node reads when ``array`` is stored, before casts; a view."""
        return array.transpose(self.axes)

    def storing(self, array: Array) -> Array:
        """What to store so that the node reads ``array``; a view."""
        return array.transpose(np.argsort(self.axes))


def stored_behind(graph: Graph, value: str) -> Stored | None:
    """The tensor that ``value`` is made of; None if it is computed by other means."""
    shared = False
    orders: list[tuple[int, ...] | None] = []
    element = None
    while value not in graph.tensors:
        index = graph.producer.get(value)
        if index is None or graph.nodes[index].op_type not in _FOLLOWED:
            return None
        node = graph.nodes[index]
        shared = shared or graph.uses[value] > 1
        if node.op_type == "Transpose":
            orders.append(attribute(node, "perm", None))
        elif node.op_type == "Cast" and element is None:
            element = int(attribute(node, "to", TensorProto.UNDEFINED))
        value = node.input[0]
    tensor = graph.tensors[value]
    axes = tuple(range(len(tensor.dims)))
    for order in reversed(orders):
        axes = tuple(axes[axis] for axis in order) if order is not None else axes[::-1]
    return Stored(
        name=value,
        tensor=tensor,
        axes=axes,
        element=tensor.data_type if element is None else element,
        shared=shared or graph.uses[value] > 1,
    )


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    for each in node.attribute:
        if each.name == name:
            return helper.get_attribute_value(each)
    return default
