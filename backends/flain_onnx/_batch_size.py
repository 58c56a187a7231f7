"""Finds out how many samples a model takes at once.

Exporters that are not told otherwise fix the batch size of the example they were given, often 1.
Usually only the shapes stored in the file depend on it; then any number of samples can run
together, which is tried, and believed only if it gives the same scores.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from flain_core.errors import ModelError
from flain_core.network import Array, Batch

from ._axes import FIRST
from ._batch import Chunks, chunks_of
from ._external import is_external
from ._graph import Graph
from ._model import OnnxModel
from ._stored import attribute
from ._subgraphs import Subgraphs

_SAMPLES_TO_COMPARE = 16
_ERROR_ALLOWED = 1e-5


class Batching:
    """Runs a graph in batches of the size it takes, or of any size if that is as good."""

    def __init__(self, graph: Graph, model: OnnxModel, scores: str) -> None:
        self.graph, self.model, self.scores = graph, model, scores
        self._fixed = Subgraphs(graph, model, scores)
        self._free: Subgraphs | None = None
        self._tried = False

    def of(self, x: Batch) -> tuple[Subgraphs, Chunks]:
        """Return what to run samples with, and the samples as it takes them."""
        chunks = chunks_of(x, self.graph.inputs)
        if chunks.samples > chunks.size and not self._tried:
            self._free = self._freed(chunks)
            self._tried = True
        if self._free is None:
            return self._fixed, chunks
        return self._free, replace(chunks, size=chunks.samples)

    def _freed(self, chunks: Chunks) -> Subgraphs | None:
        few = min(chunks.samples, chunks.size + _SAMPLES_TO_COMPARE)
        feeds = {name: array[:few] for name, array in chunks.feeds.items()}
        try:
            graph = Graph(_without_batch_size(self.graph, chunks))
            free = Subgraphs(graph, self.model, self.scores)
            scores = free.run(replace(chunks, feeds=feeds, samples=few, size=few), {})
        except ModelError:
            return None
        truth = self._fixed.run(replace(chunks, feeds=feeds, samples=few), {})
        return free if _same(scores, truth) else None


def _without_batch_size(graph: Graph, chunks: Chunks) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(graph.model)
    for value in copy.graph.input:
        batched = value.name in graph.inputs and chunks.axes[value.name] == FIRST
        if batched and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "samples"
    for node in copy.graph.node:
        shape = _written_shape(node, graph) if node.op_type == "Reshape" else None
        if shape is not None and shape.size and shape[0] == chunks.size:
            # Zero stands for the size that the axis has already.
            free = np.concatenate([[0], shape[1:]]).astype(np.int64)
            name = f"{node.output[0]}/shape of any batch"
            node.input[1] = name
            copy.graph.initializer.append(numpy_helper.from_array(free, name))
    return copy


def _written_shape(node: NodeProto, graph: Graph) -> Array | None:
    tensor = graph.tensors.get(node.input[1])
    if tensor is None or is_external(tensor) or attribute(node, "allowzero", 0):
        return None
    return numpy_helper.to_array(tensor)


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape or not np.isfinite(one).all():
        return False
    return bool(np.abs(one - other).max() <= _ERROR_ALLOWED * np.abs(other).max())
