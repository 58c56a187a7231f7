"""An ONNX model with what its file alone does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from onnx import GraphProto, ModelProto, TensorProto

from flain_core.backend_kit import chosen_output
from flain_core.errors import ModelError

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
