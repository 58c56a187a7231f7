"""Follows the weight that a node reads back to the stored tensor, reads that and changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from flain_core.errors import ModelError, WeightsError
from flain_core.network import Array

from ._external import is_external, located
from ._graph import Graph, constants
from ._model import OnnxModel

FOLLOWED = ("Identity", "Transpose", "Cast")
"""Operators that may stand between a stored weight and the node that reads it."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored tensor, an initializer or the value of a ``Constant`` node, on its way to a node.

    It arrives with its ``axes`` in that order and in the type ``element``, which the layer computes
    in. It is ``shared`` if anything else reads it, or reads what is made of it on the way.
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

    @property
    def dtype(self) -> np.dtype[Any]:
        return helper.tensor_dtype_to_np_dtype(self.element)

    @property
    def kept(self) -> np.dtype[Any]:
        """The type in which it is stored."""
        return helper.tensor_dtype_to_np_dtype(self.tensor.data_type)


def stored_behind(graph: Graph, value: str) -> Stored | None:
    """Find the tensor that ``value`` is made of; None if it is computed by other means."""
    shared = False
    orders: list[tuple[int, ...] | None] = []
    element = None
    while value not in graph.tensors:
        index = graph.producer.get(value)
        if index is None or graph.nodes[index].op_type not in FOLLOWED:
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
        if order is not None and sorted(order) != [*range(len(axes))]:
            raise ModelError(
                f"the weight {value!r} has {len(axes)} axes, and a Transpose that follows orders "
                f"{list(order)}; export the model again"
            )
        axes = tuple(axes[axis] for axis in order) if order is not None else axes[::-1]
    return Stored(
        name=value,
        tensor=tensor,
        axes=axes,
        element=tensor.data_type if element is None else element,
        shared=shared or graph.uses[value] > 1,
    )


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = (helper.get_attribute_value(each) for each in node.attribute if each.name == name)
    return next(found, default)


def read(stored: Stored, model: OnnxModel) -> Array:
    tensor = stored.tensor
    try:
        if not is_external(tensor):
            return numpy_helper.to_array(tensor)
        place = located(tensor, model.folder)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        content = np.fromfile(place.path, np.uint8, place.length, offset=place.offset)
        values = content.view(dtype).reshape(tuple(tensor.dims))
        return values.astype(dtype.newbyteorder("="), copy=False)
    except WeightsError:
        raise
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"cannot read the weight {stored.name!r}: {error}; export the model again"
        ) from error


def with_tensors(proto: ModelProto, arrays: Mapping[str, Array]) -> ModelProto:
    """Copy a model, with some stored tensors changed, by the names of their values."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    tensors |= constants(copy.graph.node)
    for name, array in arrays.items():
        if name not in tensors:
            raise WeightsError(
                f"cannot write the weight {name!r}: it is stored inside a local function; inline "
                "it first with onnx.inliner.inline_local_functions"
            )
        tensor = tensors[name]
        # Its name, type, shape and remarks stay.
        for field in ("float_data", "int32_data", "double_data", "external_data", "data_location"):
            tensor.ClearField(field)
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return copy
