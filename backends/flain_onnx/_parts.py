"""The three ways to run a model: whole, up to a layer, and on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from onnx import TensorProto

from flain_core.network import Array

from ._batch import Chunks
from ._catalogue import Entry
from ._contribution import ConvolutionInput, DenseInput, LayerInput, convolution_alone
from ._cut import OnnxCut, Tail
from ._forms import DenseForm
from ._graph import Graph
from ._model import OnnxModel
from ._rows import row_by_row
from ._sessions import Session, check_providers
from ._submodel import submodel

__all__ = ["Parts"]

_WORTH_SHARING = 4 * 2**20

_Key: TypeAlias = tuple[str, frozenset[str]]
"""A layer, and the names of the changed weights."""


@dataclass(frozen=True, eq=False)
class _Halves:
    """A graph that is cut at a layer.

    Attributes:
        head: Computes ``values``.
        values: What the head computes, the layer's output first.
        known: What the tail reads, the layer's output first, with element types.
        entered: Arranges what entered the layer, ``(chunks, ...)``.
        by_sample: Whether the tail treats each sample by itself, and reads nothing of it but the
            layer's output.
    """

    head: Session
    values: tuple[str, ...]
    known: Mapping[str, int]
    entered: Callable[[Array], LayerInput]
    by_sample: bool


class Parts:
    """Runs a model in parts. Building a session costs, so each is kept.

    Changed weights are fed, not stored, so that one session serves all of them. They are passed as
    stored tensors by name; their names decide about the session.
    """

    def __init__(self, graph: Graph, model: OnnxModel, scores: str) -> None:
        check_providers(model.providers)
        self._graph, self._model, self._scores = graph, model, scores
        self._whole: dict[frozenset[str], Session] = {}
        self._halves: dict[_Key, _Halves] = {}
        self._tails: dict[tuple[_Key, int], Tail] = {}

    def run(self, chunks: Chunks, weights: Mapping[str, Array]) -> Array:
        """The scores of the whole model."""
        key = frozenset(weights)
        if key not in self._whole:
            self._whole[key] = self._session([self._scores], self._elements(weights))
        session = self._whole[key]
        return chunks.joined([session.run({**feeds, **weights})[0] for feeds in chunks])

    def cut(self, layer: Entry, chunks: Chunks, weights: Mapping[str, Array]) -> OnnxCut:
        """Run the model up to a layer."""
        key = (layer.name, frozenset(weights))
        if key not in self._halves:
            self._halves[key] = self._cut_at(layer, self._elements(weights))
        halves, read = self._halves[key], self._halves[key].known
        entering, outputs, sides = [], [], []
        for feeds in chunks:
            known = {**feeds, **weights}
            known.update(zip(halves.values, halves.head.run(known), strict=True))
            entering.append(known[layer.data])
            outputs.append(known[layer.output])
            sides.append({name: known[name] for name in (*read, *weights) if name != layer.output})
        tail = self._tail(layer, outputs[0].nbytes, {**read, **self._elements(weights)}, key)
        x = entering[0][None] if len(entering) == 1 else np.stack(entering)
        return OnnxCut(chunks, halves.entered(x), outputs, sides, tail, halves.by_sample)

    def _tail(self, layer: Entry, work: int, known: Mapping[str, int], key: _Key) -> Tail:
        # Waking other threads for little work takes longer than the work.
        threads = 1 if work < _WORTH_SHARING else 0
        if (key, threads) not in self._tails:
            last = layer.output == self._scores
            session = None if last else self._session([self._scores], known, threads)
            self._tails[key, threads] = Tail(session, layer.output)
        return self._tails[key, threads]

    def _cut_at(self, layer: Entry, weights: Mapping[str, int]) -> _Halves:
        side = self._read_beyond(layer.output)
        while True:
            values, head = self._head(layer, side, weights)
            elements = dict(zip(values, head.elements, strict=True))
            strange = [name for name in side if name in elements and elements[name] is None]
            if not strange:
                break
            # Sequences and the like cannot be handed over; the tail computes them again.
            side = [name for name in side if name not in strange]
            side += [name for value in strange for name in self._made_from(value, side)]
        known = {name: self._element(name, elements) for name in (layer.output, *side)}
        by_sample = self._row_by_row(layer.output)
        entered = self._entered(layer, known[layer.output])
        return _Halves(head, values, known, entered, by_sample)

    def _head(
        self, layer: Entry, side: Sequence[str], weights: Mapping[str, int]
    ) -> tuple[tuple[str, ...], Session]:
        wanted = dict.fromkeys((layer.output, layer.data, *side))
        values = tuple(name for name in wanted if name not in self._graph.inputs)
        return values, self._session(values, weights)

    def _read_beyond(self, output: str) -> list[str]:
        """What the scores are computed from besides ``output``, and that depends on the samples."""
        beyond = self._graph.depending_on([output])
        read: dict[str, None] = {}
        for index in self._graph.needed([self._scores], [output]):
            if not beyond.isdisjoint(self._graph.nodes[index].output):
                read.update(dict.fromkeys(self._graph.reads[index]))
        return [name for name in read if name in self._graph.fed and name not in beyond]

    def _row_by_row(self, output: str) -> bool:
        nodes = [self._graph.nodes[i] for i in self._graph.needed([self._scores], [output])]
        beyond = self._graph.depending_on([output])
        behind = [node for node in nodes if not beyond.isdisjoint(node.output)]
        return row_by_row(behind, beyond, self._graph.tensors)

    def _made_from(self, value: str, known: Sequence[str]) -> list[str]:
        read = dict.fromkeys(self._graph.reads[self._graph.producer[value]])
        return [name for name in read if name in self._graph.fed and name not in known]

    def _entered(self, layer: Entry, element: int) -> Callable[[Array], LayerInput]:
        form = layer.form
        if isinstance(form, DenseForm):
            return partial(DenseInput, form)
        wide = TensorProto.DOUBLE if element == TensorProto.DOUBLE else TensorProto.FLOAT
        alone = convolution_alone(layer.node, self._graph.model, wide)
        return partial(ConvolutionInput, form, Session.of(alone, self._model))

    def _element(self, name: str, elements: Mapping[str, int | None]) -> int:
        if name in self._graph.inputs:
            return int(self._graph.inputs[name].type.tensor_type.elem_type)
        return elements[name] or TensorProto.UNDEFINED

    def _elements(self, weights: Mapping[str, Array]) -> dict[str, int]:
        return {name: int(self._graph.tensors[name].data_type) for name in weights}

    def _session(
        self, outputs: Sequence[str], given: Mapping[str, int], threads: int = 0
    ) -> Session:
        return Session.of(submodel(self._graph, outputs, given), self._model, threads=threads)
