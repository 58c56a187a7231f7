"""Shared by all backends: finding a layer, fitting what it is given, products neuron by neuron."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from .blocks import is_handed_over, largest_of, row_blocks
from .errors import DataError, LayerError, ModelError, WeightsError, nearest
from .network import Array

__all__ = [
    "AS_TRAINED",
    "CHANGED_MEANWHILE",
    "DenseInput",
    "check_floating",
    "check_in_range",
    "chosen_output",
    "exchange_channels",
    "find_layer",
    "fitting_bias",
    "fitting_weight",
    "kind_of",
    "no_bias",
    "not_finite",
    "read_only",
    "refusals",
    "shortened",
    "split_samples",
    "stacked_calls",
    "switched",
    "switches_of",
    "usable",
    "whole_numbers",
]

AS_TRAINED = "give samples of the shape and layout that the model was trained on"
"""What to do about a model that fails on samples."""

CHANGED_MEANWHILE = (
    "changed while the model was being copied, so another thread trains it: wait for that to end, "
    "or give a copy that nobody trains"
)
"""What is wrong with a tensor that is no longer what was copied of it."""

_switching = RLock()

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

Entry = TypeVar("Entry")
"""A layer as a backend keeps it; a string in its place is the reason why it is refused."""


def usable(entries: Mapping[str, Entry | str]) -> dict[str, Entry]:
    """Return the layers that can be purified, by name.

    >>> usable({"fc1": 1, "fc2": "it is quantized"})
    {'fc1': 1}
    """
    return {name: entry for name, entry in entries.items() if not isinstance(entry, str)}


def refusals(entries: Mapping[str, Entry | str]) -> dict[str, str]:
    """Return why the other layers are refused, by name.

    >>> refusals({"fc1": 1, "fc2": "it is quantized"})
    {'fc2': 'it is quantized'}
    """
    return {name: entry for name, entry in entries.items() if isinstance(entry, str)}


def find_layer(entries: Mapping[str, Entry | str], name: str) -> Entry:
    """Return the entry of a layer.

    Args:
        entries: For each layer of the model its entry, or the reason why it is refused.
        name: The layer.

    Raises:
        LayerError: It is refused, or there is none of that name.

    >>> find_layer({"fc1": 1, "fc2": "it is quantized"}, "fc2")
    Traceback (most recent call last):
        ...
    flain_core.errors.LayerError: layer 'fc2' cannot be purified: it is quantized
    """
    entry = entries.get(name)
    if isinstance(entry, str):
        raise LayerError(f"layer {name!r} cannot be purified: {entry}")
    if entry is None:
        found = ", ".join(map(repr, usable(entries))) or "no layer with a weight"
        refused = ", ".join(map(repr, refusals(entries)))
        others = f", and {refused}, which cannot be purified" if refused else ""
        raise LayerError(
            f"no dense or convolutional layer is called {name!r}; the model has {found}{others}."
            f"{nearest(name, entries)}"
        )
    return entry


def fitting_weight(name: str, weight: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return a weight in a layer's type, rounded once.

    Args:
        name: What the layer, or the array, is called in messages.
        weight: ``shape``, real numbers.
        shape: The canonical shape that is expected.
        dtype: The floating-point type that the layer stores.

    Returns:
        A new array, contiguous in memory; or the weight itself, where it is that already and nobody
        can write to it.

    Raises:
        WeightsError: The shape differs, or the numbers are not finite in that type.

    >>> fitting_weight("fc1", np.ones((2, 3)), (2, 3), np.float16).dtype
    dtype('float16')
    """
    return _fitting("weight", name, weight, shape, dtype)


def fitting_bias(name: str, bias: Any, present: Array | None, dtype: Any = None) -> Array:
    """Return a bias in a layer's type, rounded once.

    Args:
        name: What the layer is called in messages.
        bias: ``(out,)``, real numbers.
        present: The bias ``(out,)`` that the layer shows; None where it shows none.
        dtype: The floating-point type that the layer stores; by default that of ``present``.

    Returns:
        A new array ``(out,)``.

    Raises:
        WeightsError: The layer shows no bias, the shape differs, or the numbers are not finite in
            that type.

    >>> fitting_bias("fc1", [1, 2], np.zeros(2, np.float16))
    array([1., 2.], dtype=float16)
    >>> fitting_bias("fc1", [1, 2], None)
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: bias of 'fc1': the layer shows none; leave it out of biases
    """
    if present is None:
        raise no_bias(name)
    return _fitting("bias", name, bias, present.shape, present.dtype if dtype is None else dtype)


def _fitting(what: str, name: str, values: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    given = np.asarray(values)
    if given.shape != shape or given.dtype.kind not in "fiub":
        raise WeightsError(
            f"{what} of {name!r}: expected real numbers of shape {shape}; got {given.dtype} of "
            f"shape {given.shape}"
        )
    rounded = given
    if not (is_handed_over(given) and given.dtype == dtype and given.flags.c_contiguous):
        with np.errstate(over="ignore"):
            rounded = np.array(given, dtype=dtype, order="C")
    by_rows = np.atleast_1d(rounded)
    if not all(np.isfinite(by_rows[rows]).all() for rows in row_blocks(by_rows)):
        raise not_finite(name, rounded.dtype, what)
    return rounded


def check_in_range(samples: Array, dtype: Any, most: float | None = None) -> None:
    """Raise :class:`DataError` if samples leave the range of the type in which a model computes.

    Args:
        samples: Finite numbers, as they are given.
        dtype: That type.
        most: The largest number that it holds; None for a type that NumPy knows.

    >>> check_in_range(np.array([1.0, -1e300]), np.dtype(np.float32))
    Traceback (most recent call last):
        ...
    flain_core.errors.DataError: expected samples in the range of float32, in which the model
    computes; got numbers up to 1.0e+300: scale them as in training
    """
    most = float(np.finfo(dtype).max) if most is None else most
    if samples.dtype.kind != "f" or not samples.size or float(np.finfo(samples.dtype).max) <= most:
        return
    largest = largest_of(samples)
    if largest > most:
        raise DataError(
            f"expected samples in the range of {dtype}, in which the model computes; got numbers "
            f"up to {largest:.1e}: scale them as in training"
        )


def check_floating(name: str, given: Any) -> None:
    """Raise :class:`WeightsError` if an array holds whole numbers, where a model has others.

    >>> check_floating("fc1", np.ones((2, 3)))
    """
    if (dtype := np.asarray(given).dtype).kind in "biu":
        raise whole_numbers(name, dtype)


def whole_numbers(name: str, given: object) -> WeightsError:
    """Return the error for whole numbers, of a type, where a model has floating-point ones."""
    return WeightsError(
        f"expected floating-point numbers for {name!r}, as the model has; got {given}: give the "
        "weights that training started from, and not the integers of a quantised copy"
    )


def no_bias(name: str) -> WeightsError:
    """Return the error for a bias that is given to a layer that shows none."""
    return WeightsError(f"bias of {name!r}: the layer shows none; leave it out of biases")


def not_finite(name: str, dtype: Any, what: str = "weight") -> WeightsError:
    """Return the error for a weight, or a bias, that is not finite in a layer's type."""
    return WeightsError(
        f"{what} of {name!r}: expected numbers that are finite in {dtype}; got NaN, infinity or "
        "numbers out of its range; convert the model to a wider type first"
    )


def kind_of(value: object) -> str:
    """Return the name of a value's type with its article.

    >>> kind_of({}), kind_of(3)
    ('a dict', 'an int')
    """
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def shortened(told: str, most: int = 300) -> str:
    r"""Return what a framework said in one line of plain text, uncoloured, at a bearable length.

    >>> shortened("\x1b[1mInput 0 is\x1b[0m\n  incompatible")
    'Input 0 is incompatible'
    >>> shortened("word " * 100, most=20)
    'word word word word…'
    """
    plain = " ".join(_COLOURS.sub("", told).split())
    plain = "".join(letter if letter.isprintable() else " " for letter in plain)
    return plain if len(plain) <= most else plain[:most].rstrip() + "…"


def exchange_channels(weight: Any, groups: int) -> Any:
    """Exchange the two channel axes within each group, ``(g·a, b, *kernel) -> (g·b, a, *kernel)``.

    That leads from the layout of a transposed convolution, ``(in, out / groups, *kernel)``, to the
    canonical one and back.

    Args:
        weight: A NumPy array or a PyTorch tensor.
        groups: Groups of the convolution.

    >>> exchange_channels(np.zeros((6, 2, 5)), groups=3).shape
    (6, 2, 5)
    >>> exchange_channels(np.zeros((4, 7, 5)), groups=2).shape
    (14, 2, 5)
    """
    first, second, *kernel = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * second, first // groups, *kernel)


def split_samples(x: Any, samples: int) -> Any:
    """Bring what enters a layer into the form ``(samples, ...)``.

    Args:
        x: ``(rows, ...)``, with equally many consecutive rows for each sample; a NumPy array or a
            PyTorch tensor.
        samples: How many samples the batch has.

    Returns:
        ``x`` itself, or ``(samples, rows / samples, ...)``.

    Raises:
        LayerError: The layer does not see every sample equally often.

    >>> split_samples(np.zeros((6, 4)), 3).shape
    (3, 2, 4)
    """
    if len(x) == samples:
        return x
    if len(x) % samples:
        raise LayerError(
            f"expected the layer to see every one of the {samples} samples equally often; its "
            f"input has shape {tuple(x.shape)}; choose another layer"
        )
    return x.reshape(samples, -1, *x.shape[1:])


def stacked_calls(inputs: list[Array]) -> Array:
    """Return the inputs of several calls of a layer as positions.

    Args:
        inputs: For each call ``(n, in, *positions)``.

    Returns:
        ``(n, in, *positions)`` of a single call, read only; ``(n, in, p)`` of several.
    """
    if len(inputs) == 1:
        return read_only(inputs[0])
    return read_only(np.concatenate([x.reshape(*x.shape[:2], -1) for x in inputs], axis=2))


def chosen_output(names: Collection[str], chosen: str | int, how: str) -> str:
    """Return the name of the output that holds the scores.

    Args:
        names: The model's outputs.
        chosen: The name or the position of one.
        how: How to choose another, for the message.

    Raises:
        ModelError: There is no such output.

    >>> chosen_output(["features", "logits"], 1, "open_network(model, scores=name)")
    'logits'
    """
    if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(names):
        return list(names)[chosen]
    if isinstance(chosen, str) and chosen in names:
        return chosen
    hint = nearest(chosen, names) if isinstance(chosen, str) else ""
    raise ModelError(
        f"the model has no output {chosen!r}; it has {', '.join(map(repr, names)) or 'none'}."
        f"{hint} Choose one with {how}"
    )


def read_only(array: Array) -> Array:
    """Return a view that nobody can write through."""
    view = array.view()
    view.flags.writeable = False
    return view


class DenseInput:
    """The input of a dense layer, stored neuron by neuron: a few neurons are a few contiguous rows.

    Other frameworks use it too: a search multiplies so little at a time that calling an engine
    would cost more than the product.

    Args:
        x: ``(*rows, in)``; kept in float32 or float64.

    Example:
        >>> entered = DenseInput(np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> entered.linear(np.array([[10.0, 1.0]]), np.array([1]))
        array([[2.],
               [4.]])
    """

    def __init__(self, x: Array) -> None:
        self._rows = x.shape[:-1]
        wide = np.promote_types(x.dtype, np.float32)
        self._by_neuron = np.array(x.reshape(-1, x.shape[-1]).T, dtype=wide, order="C")

    @property
    def x(self) -> Array:
        """``(*rows, in)``, a view."""
        return self._by_neuron.T.reshape(*self._rows, -1)

    def linear(self, weight: Array, neurons: Array) -> Array:
        """Return what some input neurons contribute to the pre-activation.

        Gathering is fastest if ``weight`` lies in memory column by column.

        Args:
            weight: ``(out, in)``.
            neurons: ``(k,)`` distinct indices.

        Returns:
            ``(*rows, out)``.
        """
        columns = weight.T[neurons].astype(self._by_neuron.dtype, copy=False)
        # matmul takes twice as long as dot for a single neuron, the commonest case.
        product: Array = np.dot(self._by_neuron[neurons].T, columns)
        return product.reshape(*self._rows, -1)


@contextmanager
def switched(switches: Sequence[tuple[Any, str, object]]) -> Iterator[None]:
    """Give some attributes other values for a while; each is an owner, a name and the value.

    They are global: two threads would restore each other's values, so one at a time has its way.
    They are set, and put back, in their order; one that cannot be read is left alone.

    >>> from types import SimpleNamespace
    >>> place = SimpleNamespace(rounds=True)
    >>> with switched([(place, "rounds", False)]):
    ...     place.rounds
    False
    >>> place.rounds
    True
    """
    with _switching:
        before = []
        for owner, name, value in switches:
            # PyTorch raises where a user has mixed its old and its new switches.
            with suppress(RuntimeError):
                before.append((owner, name, value, getattr(owner, name)))
        try:
            for owner, name, value, _ in before:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, _, former in before:
                setattr(owner, name, former)


def switches_of(torch: Any) -> list[tuple[Any, str, object]]:
    """Return PyTorch's switches for TensorFloat-32 on CUDA, with the values that keep all bits.

    Args:
        torch: The module.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    # First, as they set the others too, and so both kinds agree for whoever reads one.
    old: list[tuple[Any, str, object]] = [
        (convolutions, "allow_tf32", False),
        (products, "allow_tf32", False),
    ]
    if not hasattr(convolutions, "conv"):  # before PyTorch 2.9
        return old
    places = (products, convolutions.conv, convolutions.rnn)
    return [*old, *((place, "fp32_precision", "ieee") for place in places)]
