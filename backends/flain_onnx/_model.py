"""An ONNX model with what its file alone does not say, and its tensors in files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from flain_core.backend_kit import chosen_output
from flain_core.errors import ModelError, WeightsError

from ._graph import all_nodes, bodies

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
"""The element types of layers and scores."""

Provider: TypeAlias = "str | tuple[str, dict[str, Any]]"
"""An execution provider of onnxruntime: its name, or its name and its options."""

_CHOOSE = (
    "flain_onnx.load(path, scores=name) or flain_onnx.OnnxModel(proto, scores=name) "
    "(--scores on the command line)"
)


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model, and how it is to be run. :func:`flain_core.purify` takes it and returns one.

    Attributes:
        proto: The model. Tensors in external files need not be loaded.
        folder: Where the external files of its tensors lie; None if it has none.
        scores: The output that holds the scores ``(n, ...)``; None if that is plain to see.
        providers: Execution providers of onnxruntime in order of preference.
    """

    proto: ModelProto
    folder: Path | None = None
    scores: str | None = None
    providers: Sequence[Provider] = ("CPUExecutionProvider",)

    def __repr__(self) -> str:
        graph = self.proto.graph
        return f"OnnxModel({graph.name!r}, {len(graph.node)} nodes)"


def scores_output(graph: GraphProto, chosen: str | None) -> str:
    """Return the name of the output with the scores ``(n, ...)``.

    That is the chosen one, else the only floating-point output, else the one called logits, scores
    or output, else the only one with two axes.
    """
    names = [output.name for output in graph.output]
    zipped = next((node for node in graph.node if node.op_type == "ZipMap"), None)
    if zipped is not None and (chosen is None or chosen in zipped.output):
        # Dictionaries by class are no scores; the tensor that they are made of is no output.
        raise ModelError(
            f"the model gives its probabilities as dictionaries (ZipMap, {zipped.output[0]!r}), "
            "and scores have to be one tensor (n, classes); export it again without: "
            "skl2onnx.to_onnx(model, x, options={'zipmap': False})"
        )
    if chosen is not None:
        return chosen_output(names, chosen, _CHOOSE)
    floats = [each for each in graph.output if each.type.tensor_type.elem_type in FLOATS]
    named = [each for each in floats if each.name in ("logits", "scores", "output")]
    flat = [each for each in floats if len(each.type.tensor_type.shape.dim) == 2]
    for fitting in (floats, named, flat):
        if len(fitting) == 1:
            return str(fitting[0].name)
    raise ModelError(
        f"cannot tell which output holds the scores: the model has {names}, of which {len(floats)} "
        f"are floating point; choose one with {_CHOOSE}"
    )


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
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def located(tensor: TensorProto, folder: Path | None) -> Place:
    """Return the place of an external tensor, after making sure that it is there."""
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
