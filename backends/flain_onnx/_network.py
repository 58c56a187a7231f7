"""An ONNX model as the algorithm sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from flain_core.errors import LayerError, ModelError, nearest
from flain_core.network import Array, Batch, Layer

from ._batching import Batching
from ._catalogue import Entry, catalogue
from ._cut import OnnxCut
from ._external import check_folder
from ._files import load
from ._graph import Graph
from ._model import OnnxModel
from ._outputs import scores_output
from ._pairing import renamed
from ._refusals import check_not_quantized
from ._weights import fitting, read, with_tensors

__all__ = ["OnnxNetwork", "open_network"]


@dataclass(frozen=True, eq=False)
class _Given:
    """What was opened.

    Attributes:
        model: The model as its owner gave it.
        entries: Its layers by the names they go by here.
        bare: Whether it came as a ModelProto.
    """

    model: OnnxModel
    entries: Mapping[str, Entry]
    bare: bool


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
    check_folder(source)
    graph = Graph(source.proto)
    check_not_quantized(graph.model)
    other = _opened(like)
    chosen = source.scores if other is None else source.scores or other.scores
    scores = scores_output(source.proto.graph, chosen)
    entries = catalogue(graph, scores)
    if other is not None:
        entries = renamed(entries, other.entries)
    elif entries and all(entry.refusal for entry in entries.values()):
        reasons = "; ".join(f"{name!r}: {entry.refusal}" for name, entry in entries.items())
        raise ModelError(f"no layer of the model can be purified: {reasons}")
    given = _Given(source, entries, bare=not isinstance(model, OnnxModel))
    return OnnxNetwork(given, Batching(graph, source, scores))


def _opened(like: Any) -> OnnxNetwork | None:
    if isinstance(like, OnnxNetwork):
        return like
    if isinstance(like, (ModelProto, OnnxModel)):
        return open_network(like)
    if isinstance(like, (str, os.PathLike)) and os.path.splitext(like)[1] == ".onnx":
        return open_network(load(like))
    return None


def _arrived(
    model: OnnxModel,
    names: Mapping[str, str],
    bare: bool,
    scores: str,
    weights: Mapping[str, Array],
) -> OnnxNetwork:
    check_folder(model)
    graph = Graph(model.proto)
    found = {entry.output: entry for entry in catalogue(graph, scores).values()}
    entries = {name: with_fields(found[output], name=name) for output, name in names.items()}
    return OnnxNetwork(_Given(model, entries, bare), Batching(graph, model, scores), weights)


class OnnxNetwork:
    """Implements :class:`flain_core.network.Network`; made by :func:`open_network`.

    Args:
        given: What was opened.
        batching: Runs it.
        weights: The stored tensors that are to be others than those of the model, by name.
    """

    def __init__(
        self, given: _Given, batching: Batching, weights: Mapping[str, Array] | None = None
    ) -> None:
        self._given, self._batching = given, batching
        self._weights = weights or {}

    def __reduce__(self) -> tuple[Callable[..., OnnxNetwork], tuple[object, ...]]:
        # Sessions of onnxruntime cannot travel; they are built anew.
        given = self._given
        names = {entry.output: name for name, entry in given.entries.items()}
        return _arrived, (given.model, names, given.bare, self._batching.scores, self._weights)

    @property
    def native(self) -> ModelProto | OnnxModel:
        """A copy of what was opened, with exactly the replaced tensors changed."""
        model = self._given.model
        proto = with_tensors(model.proto, self._weights)
        return proto if self._given.bare else with_fields(model, proto=proto)

    @property
    def scores(self) -> str | None:
        """The output that its owner chose to hold the scores."""
        return self._given.model.scores

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Every layer that was found, also those that cannot be purified."""
        return self._given.entries

    def layers(self) -> dict[str, Layer]:
        """The Gemm, MatMul, Conv and ConvTranspose nodes whose weight is stored in the model."""
        return dict(self._layers)

    def predict(self, x: Batch) -> Array:
        """The scores ``(n, ...)`` of a batch, float32 or float64."""
        parts, chunks = self._batching.of(x)
        return parts.run(chunks, self._weights)

    def cut(self, layer: str, x: Batch) -> OnnxCut:
        """Run the batch once and keep what the search needs at ``layer``."""
        entry = self._find(layer)
        parts, chunks = self._batching.of(x)
        return parts.cut(entry, chunks, self._weights)

    def replace(self, weights: Mapping[str, Array]) -> OnnxNetwork:
        """A copy with the weights ``(out, in / groups, *kernel)`` of some layers replaced."""
        entries = {name: self._find(name) for name in weights}
        changed = {
            entry.stored.name: fitting(entry, weights[name]) for name, entry in entries.items()
        }
        return OnnxNetwork(self._given, self._batching, {**self._weights, **changed})

    @cached_property
    def _layers(self) -> Mapping[str, Layer]:
        return {
            name: self._layer(name, entry)
            for name, entry in self.entries.items()
            if entry.refusal is None
        }

    def _layer(self, name: str, entry: Entry) -> Layer:
        stored = entry.stored
        array = self._weights.get(stored.name)
        if array is None:
            array = read(stored, self._given.model)
        weight = entry.form.canonical(stored.arriving(array)).view()
        weight.flags.writeable = False
        computed = helper.tensor_dtype_to_np_dtype(stored.element)
        return Layer(
            name=name,
            kind=entry.form.kind,
            weight=weight,
            groups=entry.form.groups,
            epsilon=float(np.finfo(computed).eps),
        )

    def _find(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            usable = list(self._layers)
            refused = [each for each in self.entries if each not in usable]
            raise LayerError(
                f"no dense or convolutional layer is called {name!r}; the model has {usable}"
                + (f", and {refused}, which cannot be purified" if refused else "")
                + f".{nearest(name, self.entries)}"
            )
        if entry.refusal is not None:
            raise LayerError(f"layer {name!r} cannot be purified: {entry.refusal}")
        return entry
