"""The network: a fixed list of operations that can be run, cut and copied with other weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from dataclasses import replace as with_fields
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from flain_core.backend_kit import check_in_range, find_layer, fitting_bias, fitting_weight
from flain_core.blocks import handed_over
from flain_core.errors import ModelError, WeightsError
from flain_core.network import Array, Layer

from ._arrays import shape_text
from ._cut import Cut
from ._layers import LinearLayer
from ._program import Operation, Program, Residual, mapped, program_of, run

_BUFFERS = ("mean", "variance")

_Change: TypeAlias = "tuple[Any, str, Array]"
"""An operation, the name of one of its fields, and the array to put there."""


class Network:
    """An inference-only network. It never changes, and its arrays are read only.

    It computes in the widest float type of its parameters, at least float32; samples are cast.

    Args:
        operations: What is done to a batch, in order. The same layer object may appear more than
            once; two different layers may not have the same name.

    >>> from flain_numpy import Dense, ReLU
    >>> network = Network([
    ...     Dense("fc1", np.array([[1.0, -1.0], [0.0, 1.0], [2.0, 0.0]])), ReLU(),
    ...     Dense("fc2", np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])),
    ... ])
    >>> network
    Network(fc1 3×2, fc2 2×3)
    >>> network.predict(np.array([[1.0, 3.0]]))
    array([[0., 5.]])
    """

    def __init__(self, operations: Iterable[Operation | Residual]) -> None:
        self._operations = tuple(operations)
        self._program = program_of(self._operations)
        self._linear = _linear_layers(self._program)
        self._dtype = _dtype(self._program)
        layers = {name: layer.described() for name, layer in self._linear.items()}
        self._layers = MappingProxyType(layers)

    def __reduce__(self) -> tuple[type[Network], tuple[object, ...]]:
        return type(self), (self._operations,)

    def __repr__(self) -> str:
        layers = (f"{name} {shape_text(each.weight.shape)}" for name, each in self._linear.items())
        return f"Network({', '.join(layers)})"

    @property
    def native(self) -> Network:
        """The network itself."""
        return self

    @property
    def operations(self) -> tuple[Operation | Residual, ...]:
        """The operations that a batch goes through, in order."""
        return self._operations

    def layers(self) -> Mapping[str, Layer]:
        """Return the dense and convolutional layers by name, in the order in which they run."""
        return self._layers

    def predict(self, x: Array) -> Array:
        """Return the scores ``(n, ...)`` of the samples ``(n, ...)``."""
        end = len(self._program)
        return run(self._program, range(end), {0: self._samples(x)}, {end})[end]

    def cut(self, layer: str, x: Array) -> Cut:
        """Run the samples ``(n, ...)`` up to ``layer`` once.

        >>> from flain_numpy import Dense
        >>> network = Network([Dense("fc1", np.array([[1.0, 10.0], [2.0, 0.0], [3.0, 0.0]]))])
        >>> cut = network.cut("fc1", np.array([[1.0, 1.0]]))
        >>> cut.output - cut.linear(network.layers()["fc1"].weight, np.array([1]))
        array([[1., 2., 3.]])
        """
        # A loader may reuse the array of one batch for the next one.
        return Cut(self._program, find_layer(self._linear, layer), self._samples(x).copy())

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> Network:
        """Return a copy with other weights ``(out, in / groups, *kernel)`` or biases ``(out,)``.

        >>> from flain_numpy import Dense
        >>> network = Network([Dense("fc1", np.array([[1.0, 10.0]]))])
        >>> network.replace({"fc1": np.array([[2.0, 0.0]])}).predict(np.array([[1.0, 1.0]]))
        array([[2.]])
        """
        changes: list[_Change] = []
        for name, weight in weights.items():
            layer = find_layer(self._linear, name)
            changes.append((layer, "weight", _fitted(name, weight, layer.weight)))
        for name, bias in (biases or {}).items():
            layer = find_layer(self._linear, name)
            changes.append((layer, "bias", fitting_bias(name, bias, layer.bias)))
        return _with_arrays(self, changes)

    def _samples(self, x: Any) -> Array:
        if not isinstance(x, np.ndarray) or x.ndim == 0 or x.dtype.kind not in "fiub":
            given = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise ModelError(f"expected one NumPy array of real numbers (n, ...); got {given}")
        check_in_range(x, self._dtype)
        return x.astype(self._dtype, copy=False)


def open_network(model: Network | Mapping[str, Array], *, like: Network | None = None) -> Network:
    """Return a network as it is, or give plain weights their architecture.

    Args:
        model: A network; or the weights of all layers by name, ``(out, in / groups, *kernel)``; or
            all arrays as :func:`arrays_of` gives them.
        like: The network whose architecture, biases and statistics go with bare weights; ignored
            for a network.

    >>> from flain_numpy import Dense
    >>> final = Network([Dense("fc1", np.array([[1.0, 2.0]]))])
    >>> open_network(final) is final
    True
    >>> initial = open_network({"fc1": np.array([[0.5, 0.5]])}, like=final)
    >>> initial.predict(np.array([[1.0, 3.0]]))
    array([[2.]])
    """
    if isinstance(model, Network):
        return model
    if not isinstance(model, Mapping) or not isinstance(like, Network):
        raise ModelError(
            "expected a flain_numpy.Network, or weights by name together with like=network; got "
            f"{type(model).__name__}; build a network with flain_numpy.Network([...])"
        )
    if model.keys() == _places(like).keys():
        return _with_arrays(
            like,
            (
                (operation, field, _fitted(name, model[name], getattr(operation, field)))
                for name, (operation, field) in _places(like).items()
            ),
        )
    missing = like.layers().keys() - model.keys()
    if missing:
        raise WeightsError(
            f"expected a weight for each of {', '.join(like.layers())}; none is given for "
            f"{', '.join(sorted(missing))}"
        )
    return like.replace(model)


def arrays_of(network: Network, *, buffers: bool = True) -> dict[str, Array]:
    """Copy the arrays of a network, in the order in which they are used.

    Those of a layer are called ``"fc1.weight"`` and ``"fc1.bias"``; those of another operation go
    by its place among all of them, from 0: ``"2.mean"``.

    Args:
        network: A network.
        buffers: False leaves out the statistics of batch normalization.

    >>> from flain_numpy import Dense, ReLU
    >>> network = Network([ReLU(), Dense("fc1", np.array([[1.0, 2.0]]), np.zeros(1))])
    >>> arrays_of(network)
    {'fc1.weight': array([[1., 2.]]), 'fc1.bias': array([0.])}
    """
    return {
        name: getattr(operation, field).copy()
        for name, (operation, field) in _places(network).items()
        if buffers or field not in _BUFFERS
    }


def _places(network: Network) -> dict[str, tuple[Any, str]]:
    """Return where each array is: an operation, and the name of its field."""
    operations: dict[int, tuple[str, Any]] = {}
    for index, step in enumerate(program_of(network.operations)):
        name = getattr(step.operation, "name", str(index))
        operations.setdefault(id(step.operation), (name, step.operation))
    return {
        f"{name}.{field.name}": (operation, field.name)
        for name, operation in operations.values()
        if is_dataclass(operation)
        for field in fields(operation)
        if isinstance(getattr(operation, field.name), np.ndarray)
    }


def _fitted(name: str, array: Array, present: Array) -> Array:
    return handed_over(fitting_weight(name, array, present.shape, present.dtype))


def _with_arrays(network: Network, changes: Iterable[_Change]) -> Network:
    replaced: dict[int, Any] = {}
    for operation, field, array in changes:
        changed: Any = replaced.get(id(operation), operation)
        replaced[id(operation)] = with_fields(changed, **{field: array})
    return Network(mapped(network.operations, lambda each: replaced.get(id(each), each)))


def _linear_layers(program: Program) -> dict[str, LinearLayer]:
    layers: dict[str, LinearLayer] = {}
    for step in program:
        layer = step.operation
        if isinstance(layer, LinearLayer) and layers.setdefault(layer.name, layer) is not layer:
            raise ModelError(
                f"two different layers are named {layer.name!r}; rename one, or use one object "
                "twice if they share their weight"
            )
    return layers


def _dtype(program: Program) -> np.dtype[Any]:
    parameters = (
        value for step in program for value in getattr(step.operation, "__dict__", {}).values()
    )
    types = {value.dtype for value in parameters if isinstance(value, np.ndarray)}
    return np.result_type(np.float32, *types)
