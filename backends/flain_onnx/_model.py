"""An ONNX model with what its file alone does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from onnx import ModelProto

__all__ = ["OnnxModel", "Provider"]

Provider: TypeAlias = "str | tuple[str, dict[str, Any]]"
"""An execution provider of onnxruntime: its name, or its name and its options."""


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
