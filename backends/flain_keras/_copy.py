"""A private copy of the caller's model, so that the caller's own can never be changed.

Keras copies a model by saving and loading it, which needs every class to describe itself and loses
what was set after construction. So the objects themselves are copied first, the way ``pickle``
walks through them, with functions and classes taken over as they are; nothing leaves the memory.
Where that fails, Keras's own way is taken. Either copy is compared with the model.
"""

from __future__ import annotations

import io
import pickle  # in memory only, on objects of this process
import threading
import types
import warnings
from copy import deepcopy
from typing import Any

import keras
import numpy as np
from keras.src.utils.backend_utils import DynamicBackend

from flain_core.backend_kit import CHANGED_MEANWHILE
from flain_core.errors import ModelError

from ._run import one_at_a_time

_TAKEN_OVER = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
    np.ufunc,
    type(threading.Lock()),
    type(threading.RLock()),
)
# Wrappers that every layer makes for itself when it is created; a copied one would build another.
_MADE_ANEW = ("build", "quantize")
# What compile() and fit() made: it points into the training of the original.
_UNCOMPILED: dict[str, Any] = {
    "compiled": False,
    "loss": None,
    "train_function": None,
    "test_function": None,
    "predict_function": None,
    "_compile_config": None,
    "_compile_loss": None,
    "_compile_metrics": None,
    "_loss_tracker": None,
    "stop_training": False,
}
_SIMPLE = (bool, int, float, str)


def private_copy(model: keras.Model) -> keras.Model:
    """Copy a model, not compiled, or raise a ModelError that says why it cannot be copied."""
    # Without what layers answer while another thread observes a run.
    with one_at_a_time:
        return _copy(model)


def _copy(model: keras.Model) -> keras.Model:
    failures = []
    for way in (_copied_objects, _saved_and_loaded):
        try:
            with warnings.catch_warnings():
                # The copy is not compiled, so what its optimizer lacks does not matter.
                warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
                copy = way(model)
        # Whatever a model holds may fail to be copied in whatever way it likes.
        except Exception as error:
            failures.append(error)
            continue
        difference = _difference(model, copy)
        if difference is None:
            return copy
        failures.append(ModelError(f"the copy differs in {difference}"))
    raise ModelError(
        f"cannot copy the {type(model).__name__}: {failures[0]}; remove what it holds besides "
        "layers, variables and settings, or give it get_config() and from_config() so that Keras "
        f"can save and load it ({failures[1]})"
    ) from failures[0]


def _copied_objects(model: keras.Model) -> keras.Model:
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(model)
    nodes = 0
    while pickler.nodes:
        # A chain of nodes through the whole graph would exhaust the stack: each on its own.
        found, pickler.nodes = pickler.nodes, []
        for each in found:
            pickler.dump(each)
        nodes += len(found)
    stream.seek(0)
    unpickler = _Unpickler(stream, pickler.taken_over)
    copy: keras.Model = unpickler.load()
    for _ in range(nodes):
        operation, inbound = unpickler.load()
        operation._inbound_nodes.extend(inbound)
    for layer in copy._flatten_layers():
        _renew_identities(layer)
    return copy


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.taken_over: list[object] = []
        self.nodes: list[tuple[Any, list[Any]]] = []

    def persistent_id(self, item: Any) -> int | None:
        if not isinstance(item, _TAKEN_OVER):
            return None
        self.taken_over.append(item)
        return len(self.taken_over) - 1

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, keras.Operation):
            self.nodes.append((item, list(item._inbound_nodes)))
            return _new, (type(item),), _state(item), None, None, _fill
        if isinstance(item, DynamicBackend):
            # It answers for every name, also for those that pickle looks for while it is empty.
            return DynamicBackend, (item.name,)
        if type(item).__module__.startswith("tensorflow.python.eager."):
            # A traced function of the original, kept by TensorFlow's bookkeeping.
            return type(None), ()
        if type(item).__module__ == "keras.src.utils.tracking":
            for container in (list, dict, set):
                if isinstance(item, container):
                    state = (container, container(item), vars(item))
                    return _new, (type(item),), state, None, None, _refill
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, taken_over: list[object]) -> None:
        super().__init__(stream)
        self._taken_over = taken_over

    def persistent_load(self, index: int) -> object:
        return self._taken_over[index]


def _state(operation: Any) -> dict[str, Any]:
    state = {name: value for name, value in vars(operation).items() if name not in _MADE_ANEW}
    if isinstance(operation, keras.Model):
        state |= {name: value for name, value in _UNCOMPILED.items() if name in state}
        # Before compile() there is none; Keras writes what it finds, also None, to .h5 files.
        state.pop("optimizer", None)
    return state | {"_inbound_nodes": [], "_outbound_nodes": []}


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


def _fill(item: Any, state: dict[str, Any]) -> None:
    vars(item).update(state)


def _refill(item: Any, state: tuple[Any, Any, dict[str, Any]]) -> None:
    # The container's own methods would ask the tracker of a layer that is not complete yet.
    container, items, attributes = state
    (list.extend if container is list else container.update)(item, items)
    vars(item).update(attributes)


def _renew_identities(layer: Any) -> None:
    """Renew the records that Keras keeps under the addresses of objects."""
    tracker = layer._tracker
    tracker.stored_ids = {
        name: {id(value) for value in store} for name, (_, store) in tracker.config.items()
    }
    if hasattr(layer, "_nodes_by_depth"):
        from keras.src.ops.function import map_graph

        layer._nodes = map_graph(layer._inputs, layer._outputs)[0]


def _saved_and_loaded(model: keras.Model) -> keras.Model:
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    functions = {
        getattr(value, "__name__", ""): value
        for layer in model._flatten_layers()
        for value in vars(layer).values()
        if isinstance(value, types.FunctionType)
    }
    with keras.saving.custom_object_scope({**functions, **classes}):
        copy: keras.Model = deepcopy(model)
    copy.compiled = False
    return copy


def _difference(model: keras.Model, copy: keras.Model) -> str | None:
    ours, theirs = (list(each._flatten_layers()) for each in (model, copy))
    if [(type(part), part.name) for part in ours] != [(type(part), part.name) for part in theirs]:
        return "its layers"
    for mine, its in zip(ours, theirs, strict=True):
        for name, value in vars(mine).items():
            plain = isinstance(value, _SIMPLE) and not name.startswith("_")
            if plain and name not in _UNCOMPILED and vars(its).get(name) != value:
                return f"the attribute {name!r} of {mine.name!r}"
    weights, copied = model.weights, copy.weights
    if len(weights) != len(copied):
        return "the number of its weights; are weights shared between layers?"
    for one, other in zip(weights, copied, strict=True):
        if one is other:
            return f"nothing, as it is the original's own {one.path!r}"
        if one.dtype != other.dtype or not np.array_equal(_values(one), _values(other), True):
            return f"the weight {one.path!r}, unless that {CHANGED_MEANWHILE}"
    return None


def _values(variable: Any) -> Any:
    values = keras.ops.convert_to_numpy(variable.value)
    return values.astype(np.float64) if values.dtype.kind not in "biuf" else values
