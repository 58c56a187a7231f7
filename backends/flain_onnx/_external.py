"""Finds tensors that lie in files beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from onnx import AttributeProto, ModelProto, TensorProto, helper

from flain_core.errors import ModelError, WeightsError

from ._graph import all_nodes, bodies
from ._model import OnnxModel


@dataclass(frozen=True)
class Place:
    """A tensor's place: ``length`` bytes of a file, from byte ``offset`` on."""

    path: Path
    offset: int
    length: int


def check_folder(model: OnnxModel) -> None:
    """Make sure that every external tensor is where the model says."""
    for tensor in _external_tensors(model.proto):
        located(tensor, model.folder)


def external_files(model: OnnxModel) -> dict[str, Path]:
    """Return the external files by the relative path that the model calls them by."""
    return {
        _entry(tensor, "location"): located(tensor, model.folder).path
        for tensor in _external_tensors(model.proto)
    }


def is_external(tensor: TensorProto) -> bool:
    """Tell whether the values of a tensor are not in the model itself."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def located(tensor: TensorProto, folder: Path | None) -> Place:
    """Return the place of an external tensor, after making sure that it is there.

    Raises:
        ModelError: There is no folder to look in.
        WeightsError: The file is missing, too short, or outside the folder.
    """
    if folder is None:
        raise ModelError(
            f"the tensor {tensor.name!r} lies in an external file, and a ModelProto alone does not "
            "know its folder; open the file with flain_onnx.load(path), or give its path"
        )
    location = _entry(tensor, "location")
    path = (folder / location).resolve()
    # By another way round it would lead elsewhere from the folder of a copy.
    straight = not Path(location).is_absolute() and ".." not in Path(location).parts
    if not location or not straight or not path.is_relative_to(folder.resolve()):
        raise WeightsError(
            f"the tensor {tensor.name!r} points to {location!r}, outside the model's folder "
            f"{folder}; nothing outside is ever read; export the model again"
        )
    if not path.is_file():
        raise WeightsError(
            f"the tensor {tensor.name!r} lies in {path}, which does not exist; keep the model "
            "together with the files that were exported with it"
        )
    try:
        offset = int(_entry(tensor, "offset") or 0)
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * prod(tensor.dims)
        length = int(_entry(tensor, "length") or size)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"the tensor {tensor.name!r} says something unreadable about its place ({error}); "
            "export the model again"
        ) from error
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise WeightsError(
            f"the tensor {tensor.name!r} should be bytes {offset} to {offset + length} of {path}, "
            f"which has {path.stat().st_size}; the file is damaged or belongs to another model"
        )
    return Place(path, offset, length)


def _external_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    yield from filter(is_external, proto.graph.initializer)
    for sparse in proto.graph.sparse_initializer:
        yield from filter(is_external, (sparse.values, sparse.indices))
    functions = (node for function in proto.functions for node in function.node)
    for node in (*all_nodes(proto.graph), *functions):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield from filter(is_external, (attribute.t,))
        for body in bodies(node):
            yield from filter(is_external, body.initializer)


def _entry(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")
