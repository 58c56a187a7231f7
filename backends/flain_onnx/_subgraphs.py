"""Runs a model whole, up to a layer, and on from there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from flain_core.network import Array

from ._batch import Chunks
from ._cut import ConvolutionInput, MatrixInput, OnnxCut
from ._forms import DenseForm
from ._graph import Graph
from ._layers import Entry
from ._model import OnnxModel
from ._sessions import Session, check_providers
from ._stored import attribute

_WORTH_SHARING = 4 * 2**20

_OF_ONE_NUMBER = {
    *("Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Mish", "HardSwish", "HardSigmoid", "Softplus"),
    *("Tanh", "Sigmoid", "Erf", "Exp", "Neg", "Abs", "Identity", "Cast"),
}
_OF_TWO_NUMBERS = {"Add", "Sub", "Mul", "Div"}
_ALONG_ROWS = {"Softmax", "LogSoftmax"}


@dataclass(frozen=True, eq=False)
class _Halves:
    """A graph that is cut at a layer."""

    head: Session
    """Computes the layer's input and output, and what the tail reads besides."""
    read: Mapping[str, int]
    """Inputs of the tail, the layer's output first, with element types."""
    entered: Callable[[Array], MatrixInput | ConvolutionInput]
    """Arranges what entered the layer, ``(chunks, ...)``."""
    by_sample: bool
    """See :class:`OnnxCut`."""


class Subgraphs:
    """Runs a model in one piece or two. Building a session costs, so each is kept.

    Changed weights are fed, not stored, so that one session serves all of them. They are passed as
    stored tensors by name; their names decide about the session.
    """

    def __init__(self, graph: Graph, model: OnnxModel, scores: str) -> None:
        check_providers(model.providers)
        self._graph, self._model, self._scores = graph, model, scores
        self._halves: dict[tuple[str, frozenset[str]], _Halves] = {}
        self._scorers: dict[tuple[frozenset[str], int], Session] = {}

    def run(self, chunks: Chunks, weights: Mapping[str, Array]) -> Array:
        session = self._scorer(self._elements(weights))
        return chunks.joined([session.run({**feeds, **weights})[0] for feeds in chunks])

    def cut(self, layer: Entry, chunks: Chunks, weights: Mapping[str, Array]) -> OnnxCut:
        fed, key = self._elements(weights), (layer.output, frozenset(weights))
        if key not in self._halves:
            self._halves[key] = self._cut_at(layer, fed)
        halves = self._halves[key]
        entering, outputs, sides = [], [], []
        beside = [name for name in (*halves.read, *weights) if name != layer.output]
        for feeds in chunks:
            known = {**feeds, **weights}
            known.update(zip(halves.head.outputs, halves.head.run(known), strict=True))
            entering.append(known[layer.data])
            outputs.append(known[layer.output])
            sides.append({name: known[name] for name in beside})
        tail = None
        if layer.output != self._scores:
            # Waking other threads for little work takes longer than the work.
            threads = 1 if outputs[0].nbytes < _WORTH_SHARING else 0
            tail = self._scorer({**halves.read, **fed}, threads)
        x = entering[0][None] if len(entering) == 1 else np.stack(entering)
        entered = halves.entered(x)
        cut = OnnxCut(chunks, entered, outputs, sides, tail, layer.output, halves.by_sample)
        own = set(beside) - set(weights)
        cut.bytes_beside = sum(side[name].nbytes for side in sides for name in own)
        return cut

    def _scorer(self, given: Mapping[str, int], threads: int = 0) -> Session:
        key = frozenset(given), threads
        if key not in self._scorers:
            self._scorers[key] = self._session([self._scores], given, threads)
        return self._scorers[key]

    def _cut_at(self, layer: Entry, weights: Mapping[str, int]) -> _Halves:
        graph = self._graph
        beyond = graph.depending_on([layer.output])
        behind = [
            index
            for index in graph.needed([self._scores], [layer.output])
            if not beyond.isdisjoint(graph.nodes[index].output)
        ]
        side = [name for name in self._read_by(behind) if name not in beyond]
        inputs = {
            name: int(value.type.tensor_type.elem_type) for name, value in graph.inputs.items()
        }
        while True:
            wanted = dict.fromkeys((layer.output, layer.data, *side))
            head = self._session([name for name in wanted if name not in inputs], weights)
            elements = {**inputs, **head.outputs}
            strange = [name for name in side if elements[name] is None]
            if not strange:
                break
            # Sequences and the like cannot be handed over; the tail computes them again.
            made_from = self._read_by(graph.producer[name] for name in strange)
            side = list(dict.fromkeys([*side, *made_from]))
            side = [name for name in side if name not in strange]
        read = {name: elements[name] or TensorProto.UNDEFINED for name in (layer.output, *side)}
        by_sample = all(_row_by_row(graph.nodes[i], beyond, graph.tensors) for i in behind)
        if isinstance(layer.form, DenseForm):
            return _Halves(head, read, partial(MatrixInput, layer.form), by_sample)
        double = read[layer.output] == TensorProto.DOUBLE
        wide = TensorProto.DOUBLE if double else TensorProto.FLOAT
        alone = Session(_alone(layer.node, graph.model, wide), self._model)
        entered = partial(ConvolutionInput, layer.form, alone)
        return _Halves(head, read, entered, by_sample)

    def _read_by(self, nodes: Iterable[int]) -> list[str]:
        """Return what nodes read, as far as it depends on the samples."""
        read = dict.fromkeys(name for index in nodes for name in self._graph.reads[index])
        return [name for name in read if name in self._graph.fed]

    def _elements(self, weights: Mapping[str, Array]) -> dict[str, int]:
        return {name: int(self._graph.tensors[name].data_type) for name in weights}

    def _session(
        self, outputs: Sequence[str], given: Mapping[str, int], threads: int = 0
    ) -> Session:
        return Session(_subgraph(self._graph, outputs, given), self._model, threads=threads)


def _row_by_row(
    node: NodeProto, changing: Collection[str], tensors: Mapping[str, TensorProto]
) -> bool:
    """Tell whether a node makes of matrices a matrix whose rows depend on the same rows alone.

    Only what is known is taken: besides the ``changing`` values, with a row for each sample, it
    reads stored tensors alone.
    """
    axes = {name: len(tensors[name].dims) for name in node.input if name in tensors}
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _OF_TWO_NUMBERS:
        return all(name in changing or axes.get(name, 2) <= 1 for name in node.input)
    if node.input[0] not in changing:
        return False
    others = [axes.get(name, -1) for name in node.input[1:] if name]
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0) and others in ([2], [2, 1], [2, 0])
    if node.op_type == "MatMul":
        return others == [2]
    if node.op_type in _ALONG_ROWS:
        return attribute(node, "axis", 1) in (1, -1)
    return node.op_type in _OF_ONE_NUMBER and not others


def _subgraph(graph: Graph, outputs: Sequence[str], given: Mapping[str, int]) -> ModelProto:
    """Return the subgraph that computes some values, as a model of its own.

    The ``given`` values, with their element types, are fed instead of computed or stored.
    """
    indices = graph.needed(outputs, given)
    read = {name for index in indices for name in graph.reads[index]} | set(outputs)
    inputs = [each for name, each in graph.inputs.items() if name in read and name not in given]
    inputs += [_value(name, element) for name, element in given.items() if name in read]
    model = _like(graph.model, [graph.nodes[index] for index in indices], inputs, outputs)
    model.graph.initializer.extend(
        tensor for name, tensor in graph.initializers.items() if name in read and name not in given
    )
    model.graph.sparse_initializer.extend(
        tensor for tensor in graph.model.graph.sparse_initializer if tensor.values.name in read
    )
    return model


def _alone(node: NodeProto, whole: ModelProto, element: int) -> ModelProto:
    """Return a model of one convolution, with inputs ``x`` and ``weight`` and no bias."""
    convolution = helper.make_node(node.op_type, ["x", "weight"], ["output"])
    convolution.attribute.extend(node.attribute)
    inputs = [_value(name, element) for name in convolution.input]
    return _like(whole, [convolution], inputs, convolution.output)


def _like(
    whole: ModelProto,
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[str],
) -> ModelProto:
    # The runtime infers the types of outputs.
    ends = [ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, whole.graph.name or "graph", inputs, ends)
    # Before version 4 every initializer had to be an input as well.
    version = max(whole.ir_version, 4)
    return helper.make_model(graph, opset_imports=whole.opset_import, ir_version=version)


def _value(name: str, element: int) -> ValueInfoProto:
    # Without a shape: it may differ from batch to batch, and the operators infer it.
    return helper.make_tensor_value_info(name, element, None)
