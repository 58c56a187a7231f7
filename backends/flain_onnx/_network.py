"""An ONNX model as the algorithm sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace as with_fields
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto

from flain_core.backend_kit import (
    find_layer,
    fitting_bias,
    fitting_weight,
    no_bias,
    read_only,
    refusals,
    usable,
)
from flain_core.errors import ModelError
from flain_core.network import Array, Batch, Layer

from ._batch_size import Batching
from ._checks import check_fields, check_not_quantized
from ._cut import OnnxCut
from ._external import bytes_declared, check_folder
from ._files import load
from ._graph import Graph
from ._guard import one_error
from ._layers import Entry, catalogue, refused_fused, refused_in_bodies, refused_recurrent
from ._model import OnnxModel, scores_output
from ._pairs import renamed
from ._stored import Stored, read, with_tensors

_FED_FROM = 64 * 2**20
_ON_CPU = ("CPUExecutionProvider",)


@one_error()
def open_network(model: ModelProto | OnnxModel, *, like: Any = None) -> OnnxNetwork:
    """Open a model for purification. The model itself is never touched.

    Args:
        model: A model, alone or with how it is to be run.
        like: Another export of the same network: a model, a path or a network. Exporters give the
            layers of two files different names; with ``like`` this model's layers get the names
            that its layers have, and the output that was chosen there is chosen here.

    Raises:
        ModelError: The model cannot be opened.
        WeightsError: Its layers are not those of ``like``.
    """
    source = model if isinstance(model, OnnxModel) else OnnxModel(model)
    if not isinstance(source.proto, ModelProto):
        raise ModelError(
            f"expected an onnx.ModelProto or a flain_onnx.OnnxModel; got {type(model).__name__}"
        )
    check_fields(source.proto)
    check_folder(source)
    graph = Graph(source.proto)
    check_not_quantized(graph.model)
    other = _opened(like)
    chosen = source.scores if other is None else source.scores or other.scores
    scores = scores_output(source.proto.graph, chosen)
    entries = catalogue(graph, scores)
    if other is not None:
        entries = renamed(entries, other.entries)
    return OnnxNetwork(model, entries, Batching(graph, source, scores), weights={})


def _opened(like: Any) -> OnnxNetwork | None:
    if isinstance(like, OnnxNetwork):
        return like
    if isinstance(like, (ModelProto, OnnxModel)):
        return open_network(like)
    if isinstance(like, (str, os.PathLike)) and os.path.splitext(like)[1] == ".onnx":
        return open_network(load(like))
    return None


@one_error()
def _arrived(
    given: ModelProto | OnnxModel,
    names: Mapping[str, str],
    scores: str,
    weights: Mapping[str, Array],
) -> OnnxNetwork:
    model = given if isinstance(given, OnnxModel) else OnnxModel(given)
    check_folder(model)
    graph = Graph(model.proto)
    found = {entry.output: entry for entry in catalogue(graph, scores).values()}
    entries = {name: found[output] for output, name in names.items()}
    return OnnxNetwork(given, entries, Batching(graph, model, scores), weights)


class OnnxNetwork:
    """Implements :class:`flain_core.network.Network`, with scores in float32 or float64.

    The ``entries`` are all layers outside bodies of If and Loop, by the names they go by here; the
    ``weights`` are the stored tensors, biases among them, by name, that are to be others than those
    of the model.
    """

    def __init__(
        self,
        given: ModelProto | OnnxModel,
        entries: Mapping[str, Entry],
        batching: Batching,
        weights: Mapping[str, Array],
        read_before: dict[str, Array] | None = None,
    ) -> None:
        self._given, self.entries, self._batching = given, entries, batching
        self._weights = weights
        # What the model holds is read once, for all networks that differ from it in some weights.
        self._read = {} if read_before is None else read_before

    def __reduce__(self) -> tuple[Callable[..., OnnxNetwork], tuple[object, ...]]:
        # Sessions of onnxruntime cannot travel; they are built anew.
        names = {entry.output: name for name, entry in self.entries.items()}
        return _arrived, (self._given, names, self._batching.scores, self._weights)

    @property
    def native(self) -> ModelProto | OnnxModel:
        """A copy of what was opened, with exactly the replaced tensors changed."""
        model = self._batching.model
        proto = with_tensors(model.proto, self._weights)
        return with_fields(model, proto=proto) if isinstance(self._given, OnnxModel) else proto

    @property
    def scores(self) -> str | None:
        """The output that its owner chose to hold the scores."""
        return self._batching.model.scores

    def layers(self) -> dict[str, Layer]:
        """Return the Gemm, MatMul, Conv and ConvTranspose nodes whose weight is stored."""
        return dict(self._layers)

    def refused_layers(self) -> dict[str, str]:
        return refusals(self._choices)

    @one_error()
    def predict(self, x: Batch) -> Array:
        subgraphs, chunks = self._batching.of(x)
        return subgraphs.run(chunks, self._fed)

    @one_error()
    def cut(self, layer: str, x: Batch) -> OnnxCut:
        entry = find_layer(self._choices, layer)
        subgraphs, chunks = self._batching.of(x)
        return subgraphs.cut(entry, chunks, self._fed)

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> OnnxNetwork:
        changed = dict(self._weights)
        for name, weight in weights.items():
            entry = find_layer(self._choices, name)
            changed[entry.stored.name] = _weight_to_store(name, entry, weight)
        for name, bias in (biases or {}).items():
            own = find_layer(self._choices, name).bias
            present = self.layers()[name].bias
            if own is None:
                raise no_bias(name)
            changed[own.stored.name] = _bias_to_store(name, own.stored, bias, present)
        return OnnxNetwork(self._given, self.entries, self._batching, changed, self._read)

    @cached_property
    @one_error()
    def _choices(self) -> dict[str, Entry | str]:
        """Each layer, or why it is refused."""
        found = {name: entry.refusal or entry for name, entry in self.entries.items()}
        found |= refused_in_bodies(self._batching.graph, taken=found)
        found |= refused_fused(self._batching.graph, taken=found)
        return found | refused_recurrent(self._batching.graph, taken=found)

    @cached_property
    @one_error()
    def _layers(self) -> Mapping[str, Layer]:
        return {name: self._layer(name, entry) for name, entry in usable(self._choices).items()}

    def _layer(self, name: str, entry: Entry) -> Layer:
        stored, form = entry.stored, entry.form
        return Layer(
            name=name,
            kind=form.kind,
            weight=read_only(form.turned(self._array(stored).transpose(stored.axes))),
            groups=form.groups,
            epsilon=float(np.finfo(stored.dtype).eps),
            bias=None if entry.bias is None else read_only(self._array(entry.bias.stored).ravel()),
        )

    @cached_property
    def _fed(self) -> Mapping[str, Array]:
        """The tensors that runs are given, by name: the changed ones, and large ones.

        Each session keeps a copy of those that it is not given.
        """
        if tuple(self._batching.model.providers) != _ON_CPU:
            return self._weights
        weights = (entry.stored for entry in usable(self._choices).values())
        large = (each for each in weights if bytes_declared(each.tensor) >= _FED_FROM)
        return {**{each.name: self._array(each) for each in large}, **self._weights}

    def _array(self, stored: Stored) -> Array:
        """The tensor that a network has where the model has a stored one."""
        if stored.name in self._weights:
            return self._weights[stored.name]
        if stored.name not in self._read:
            self._read[stored.name] = read(stored, self._batching.model)
        return self._read[stored.name]


def _bias_to_store(name: str, stored: Stored, bias: Array, present: Array | None) -> Array:
    rounded = fitting_bias(name, bias, present, stored.kept)
    if stored.dtype != stored.kept:
        fitting_bias(name, rounded, present, stored.dtype)
    return rounded.reshape(tuple(stored.tensor.dims))


def _weight_to_store(name: str, entry: Entry, weight: Array) -> Array:
    stored = entry.stored
    rounded = fitting_weight(name, weight, entry.shape, stored.kept)
    if stored.dtype != stored.kept:
        # A cast on the way can narrow the numbers further.
        fitting_weight(name, rounded, entry.shape, stored.dtype)
    arriving = entry.form.turned(rounded)
    return np.ascontiguousarray(arriving.transpose(np.argsort(stored.axes)))
