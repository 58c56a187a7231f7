"""The protocols that a backend implements: a network, its layers, and a cut at one of them.

A *cut* is one batch that was run once up to a layer; its *tail* computes the scores from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from .errors import ModelError

__all__ = [
    "MEMBERS",
    "Array",
    "Batch",
    "Cut",
    "Layer",
    "Network",
    "is_network",
    "refused_layers",
]

MEMBERS = ("native", "layers", "predict", "cut", "replace")
"""The members of :class:`Network` that every network has."""

SINGLE_PRECISION = 2.0**-23
"""Machine epsilon of float32."""

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
"""A NumPy array."""

Batch: TypeAlias = Any
"""The input of a model for n samples: an array ``(n, ...)``, or a tuple or dict of such arrays."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One fully connected or convolutional layer, in the canonical orientation.

    Attributes:
        name: The name that the framework's users know the layer by, such as ``"fc1"``.
        kind: ``"dense"`` or ``"conv"``; transposed convolutions count as ``"conv"``.
        weight: ``(out, in / groups, *kernel)``, floating point. Read only. Half-precision formats
            that NumPy lacks (bfloat16) arrive as float32.
        groups: Number of groups of a convolution; 1 for a dense layer.
        epsilon: Machine epsilon of the numbers the layer computes in: ``2**-23`` for float32.
        bias: ``(out,)``, floating point in the layer's type, with the same exception. Read only.
            None where the layer has no bias, or it cannot be replaced: it is shared, quantized or
            computed.

    Example:
        >>> layer = Layer("conv2", "conv", np.zeros((8, 3, 5, 5), np.float32), groups=2)
        >>> layer, layer.neurons
        (Layer('conv2', conv, 8×3×5×5, 6 input neurons), 6)
    """

    name: str
    kind: str
    weight: Array
    groups: int = 1
    epsilon: float = SINGLE_PRECISION
    bias: Array | None = None

    def __post_init__(self) -> None:
        """Raise :class:`ModelError` for a weight or a bias that a backend gave in another form."""
        if not _is_real(self.weight) or self.weight.ndim < 2:
            raise ModelError(
                f"layer {self.name!r}: expected weight as a NumPy array (out, in / groups, "
                "*kernel) of floating-point numbers; its backend gave "
                f"{_form_of(self.weight)}"
            )
        bias = self.bias
        if bias is not None and not (_is_real(bias) and bias.ndim == 1):
            raise ModelError(
                f"layer {self.name!r}: expected bias as a NumPy array (out,) of floating-point "
                f"numbers; its backend gave {_form_of(bias)}"
            )

    @property
    def neurons(self) -> int:
        """Number of input neurons: features, or channels of a convolution."""
        return int(self.weight.shape[1]) * self.groups

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.weight.shape))
        return f"Layer({self.name!r}, {self.kind}, {shape}, {self.neurons} input neurons)"


@runtime_checkable
class Cut(Protocol):
    """One batch of n samples, run once up to a layer.

    ``output``, ``linear`` and ``tail`` use the backend's own array type. The algorithm only
    subtracts such arrays, so tensors stay on their device.

    Two further members make searches faster where a cut has them; both may be None. ``tails`` is a
    function of a list of pre-activations that gives the scores of each, where one call costs less
    than several. ``tail_by_sample`` is for a dense layer whose tail treats every sample by itself:
    it gives the scores ``(m, ...)`` for NumPy pre-activations ``(m, out)`` of any m samples in any
    order, and leaves those as they are.
    """

    @property
    def inputs(self) -> Array:
        """``(n, in, *positions)``: what enters the layer; several calls become positions."""
        ...

    @property
    def calls(self) -> int:
        """Number of times the layer ran on the batch; a cut has a meaning only if it is 1."""
        ...

    @property
    def output(self) -> Any:
        """The pre-activation of the layer for the batch, with its bias. Never modified.

        A bias that the model adds only after rearranging it may be missing.
        """
        ...

    def linear(self, weight: Array, neurons: Array) -> Any:
        """Return what the input neurons contribute to the pre-activation under ``weight``.

        Args:
            weight: ``(out, in / groups, *kernel)``, float32 or float64, no NaN.
            neurons: ``(k,)`` distinct indices of input neurons, ``0 <= k <= in``, in any order.

        Returns:
            An array like ``output``, without bias: summed over all neurons, plus bias, it is the
            pre-activation under ``weight``.
        """
        ...

    def tail(self, output: Any) -> Array:
        """Return the scores ``(n, ...)`` of the batch if the pre-activation were ``output``.

        Leaves ``output`` as it is and gives the same answer every time.
        """
        ...


@runtime_checkable
class Network(Protocol):
    """A model as the algorithm sees it. Evaluated only: dropout off, statistics frozen.

    Two further methods are optional: ``refused_layers()`` gives, by name, the reason why each layer
    that :meth:`layers` leaves out cannot be purified. ``check_initial(initial, layers)`` raises
    :class:`WeightsError` where the weights of those layers do not tell what training changed since
    the network ``initial``.
    """

    @property
    def native(self) -> Any:
        """The framework's own object, in the mode (training or evaluation) its owner left it in."""
        ...

    def layers(self) -> Mapping[str, Layer]:
        """Return the layers that can be purified, by name, in the order of the model.

        A layer that cannot be purified safely is left out; :meth:`cut` and :meth:`replace` raise a
        :class:`~flain_core.LayerError` for it that says why.
        """
        ...

    def predict(self, x: Batch) -> Array:
        """Return the scores of a batch: ``(n, classes)`` for a classifier, floating point.

        Args:
            x: The input of the model for n samples: an array ``(n, ...)``, or a tuple or dict of
                such arrays.
        """
        ...

    def cut(self, layer: str, x: Batch) -> Cut:
        """Run the batch ``x`` once and keep what the search needs at ``layer``.

        Raises:
            LayerError: There is no layer of that name, or it cannot be purified.
        """
        ...

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> Network:
        """Return a copy with the weights ``(out, in / groups, *kernel)`` of some layers replaced.

        The biases ``(out,)`` of the same or other layers may be replaced with them. Callers leave
        ``biases`` out unless they have some, and give them only for layers whose ``bias`` is not
        None; a network whose layers show none needs no such parameter.

        The network itself and the caller's model stay as they are.

        Args:
            weights: By name of the layer, ``(out, in / groups, *kernel)``.
            biases: By name of the layer, ``(out,)``.

        Raises:
            WeightsError: A weight or a bias does not fit, is not finite or overflows the layer's
                type, or the layer has no bias to replace.
            LayerError: There is no layer of that name, or it cannot be purified.
        """
        ...


def is_network(model: object) -> bool:
    """Return whether an object has the members of :class:`Network`, delegated ones included."""
    # Since Python 3.12 isinstance does not see members that __getattr__ delegates.
    return all(hasattr(model, name) for name in MEMBERS)


def refused_layers(network: Network) -> Mapping[str, str]:
    """Return why layers of a network cannot be purified, by name, as far as it says so.

    Raises:
        ModelError: Its ``refused_layers`` does not give reasons by name.
    """
    refused: Callable[[], Mapping[str, str]] | None = getattr(network, "refused_layers", None)
    if refused is None:
        return {}
    try:
        reasons = {str(name): str(reason) for name, reason in refused().items()}
    # A network of the caller's may have a member of that name for something else.
    except Exception as error:
        raise ModelError(
            f"expected refused_layers() of {type(network).__qualname__} to return reasons by name "
            f"of layer; it failed ({type(error).__name__}: {error})"
        ) from error
    found = network.layers()
    return {name: reason for name, reason in reasons.items() if name not in found}


def _is_real(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _form_of(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a value of type {type(value).__name__}"
