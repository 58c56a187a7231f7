"""Reading and replacing stored weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from flain_core.errors import WeightsError
from flain_core.network import Array

from ._catalogue import Entry
from ._external import is_external, located
from ._model import OnnxModel
from ._stored import Stored

__all__ = ["fitting", "read", "with_tensors"]


def read(stored: Stored, model: OnnxModel) -> Array:
    """The stored tensor as it lies in the model or its external file."""
    tensor = stored.tensor
    try:
        if not is_external(tensor):
            return numpy_helper.to_array(tensor)
        place = located(tensor, model.folder)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        shape = tuple(tensor.dims)
        with place.path.open("rb") as file:
            file.seek(place.offset)
            values = np.frombuffer(file.read(place.length), dtype)
        return values.reshape(shape).astype(dtype.newbyteorder("="))
    except (OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"cannot read the weight {stored.name!r}: {error}; export the model again"
        ) from error


def fitting(entry: Entry, weight: Array) -> Array:
    """A weight ``(out, in / groups, *kernel)`` as it is to be stored, rounded once."""
    given = np.asarray(weight)
    if given.shape != entry.shape or given.dtype.kind not in "fiub":
        raise WeightsError(
            f"the weight of layer {entry.name!r} must be numbers of shape {entry.shape}; got "
            f"{given.dtype} of shape {given.shape}"
        )
    stored = entry.stored.storing(entry.form.arriving(given))
    dtype = helper.tensor_dtype_to_np_dtype(entry.stored.tensor.data_type)
    with np.errstate(over="ignore"):
        rounded = np.array(stored, dtype=dtype, order="C")
        computed = rounded.astype(helper.tensor_dtype_to_np_dtype(entry.stored.element))
    if not np.isfinite(computed).all():
        raise WeightsError(
            f"the weight for layer {entry.name!r} is not finite in {computed.dtype}: it holds NaN "
            "or numbers out of range; export the model in a wider type"
        )
    return rounded


def with_tensors(proto: ModelProto, arrays: Mapping[str, Array]) -> ModelProto:
    """A copy of a model with some stored tensors changed, by the names of their values."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], each.t) for each in node.attribute)
    for name, array in arrays.items():
        if name not in tensors:
            raise WeightsError(
                f"cannot write the weight {name!r}: it is stored inside a local function; inline "
                "it first with onnx.inliner.inline_local_functions"
            )
        _set(tensors[name], array)
    return copy


def _set(tensor: TensorProto, array: Array) -> None:
    """Give a tensor new values; its name, type, shape and remarks stay."""
    for field in (
        "float_data",
        "int32_data",
        "double_data",
        "external_data",
        "data_location",
    ):
        tensor.ClearField(field)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    tensor.raw_data = little.tobytes()
