"""Compares the tensors of two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flain_core as flain
from flain_core.network import Array
from flain_core.opening.known_backends import built_in
from flain_core.opening.registry import arrays_of, open_network

from .models import is_factory, opened
from .options import ModelOptions

Tensors = Mapping[str, Array]
"""Arrays by name."""

_WEIGHTS = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Difference:
    """How one tensor differs.

    Attributes:
        name: Its name in the first model.
        shape: Its shape.
        changed: Number of entries that differ.
        entries: Number of entries.
        largest: The largest absolute difference of two entries, in units of the tensor; None if it
            is not finite.
        relative: Norm of the difference, divided by the norm of the tensor in the first model; None
            if that is 0 or either is not finite.
    """

    name: str
    shape: tuple[int, ...]
    changed: int
    entries: int
    largest: float | None
    relative: float | None


@dataclass(frozen=True)
class TensorsCompared:
    """How the tensors of two models differ.

    Attributes:
        differences: Tensors that both have, in the same shape; equal ones too.
        only_in_a: Names of tensors that only the first model has.
        only_in_b: Likewise.
        shapes: Shapes in both, by name, of tensors that have different ones.
    """

    differences: tuple[Difference, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def same(self) -> bool:
        """Whether both models have the same tensors, equal in every entry."""
        return not (
            self.only_in_a
            or self.only_in_b
            or self.shapes
            or any(each.changed for each in self.differences)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it in types that JSON knows."""
        return {"same": self.same, **asdict(self)}


def tensors_of_both(a: str, b: str, options: ModelOptions) -> tuple[Tensors, Tensors]:
    """Read the tensors of two models: all of them, or those of layers where formats differ.

    Raises:
        FlainError: A model cannot be read.
    """
    names = (a, b)
    formats = {"" if is_factory(name) else Path(name).suffix for name in names}
    # Weights alone do not know their layers; but their names are those of a module's tensors.
    bare = any(_is_bare(name, options) for name in names)
    read = _all_of if len(formats) == 1 or bare else _of_layers
    return read(a, options), read(b, options)


def compared(a: Tensors, b: Tensors) -> TensorsCompared:
    """Compare tensors of the same name; in order, if no name is in both and all shapes fit.

    >>> compared({"w": np.zeros(3)}, {"w": np.array([0.0, 2.0, 0.0])}).differences
    (Difference(name='w', shape=(3,), changed=1, entries=3, largest=2.0, relative=None),)
    """
    if not a.keys() & b.keys() and _shapes(a) == _shapes(b):
        # Frameworks number models of the same class: "sequential" and "sequential_1".
        b = dict(zip(a, b.values(), strict=True))
    both = [name for name in a if name in b]
    return TensorsCompared(
        tuple(_difference(name, a[name], b[name]) for name in both if _same_shape(a, b, name)),
        only_in_a=tuple(name for name in a if name not in b),
        only_in_b=tuple(name for name in b if name not in a),
        shapes={n: (a[n].shape, b[n].shape) for n in both if not _same_shape(a, b, n)},
    )


def _all_of(name: str, options: ModelOptions) -> Tensors:
    if _is_bare(name, options):
        weights: Tensors = built_in("flain_torch").weights_in(name)
        return weights
    model = opened(name, options)
    if Path(name).suffix == ".onnx":
        onnx = built_in("flain_onnx")
        stored: Tensors = onnx.stored_tensors(
            onnx.load(model) if isinstance(model, Path) else model
        )
        return stored
    native = open_network(model).native
    try:
        return arrays_of(native)
    except flain.ModelError:
        # A backend of somebody else's may hand out no arrays; its layers it shows.
        return _layers(open_network(model))


def _is_bare(name: str, options: ModelOptions) -> bool:
    return Path(name).suffix in _WEIGHTS and options.architecture is None


def _of_layers(name: str, options: ModelOptions) -> Tensors:
    return _layers(open_network(opened(name, options)))


def _layers(network: flain.Network) -> Tensors:
    found: dict[str, Array] = {}
    for name, layer in network.layers().items():
        found[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            found[f"{name}.bias"] = layer.bias
    return found


def _difference(name: str, a: Array, b: Array) -> Difference:
    kinds = {a.dtype.kind, b.dtype.kind}
    whole = kinds <= set("biu")
    wide = np.complex128 if "c" in kinds else np.longdouble if whole else np.float64
    with np.errstate(all="ignore"):
        mine: Array = a.astype(wide)
        its: Array = b.astype(wide)
        # Large integers would be rounded; and NaN is no change where it was NaN before.
        equal = a == b if whole else (mine == its) | (np.isnan(mine) & np.isnan(its))
        apart = np.where(equal, 0.0, its - mine).ravel()
        reference, norm = float(np.linalg.norm(mine.ravel())), float(np.linalg.norm(apart))
    return Difference(
        name,
        a.shape,
        changed=int(a.size - np.count_nonzero(equal)),
        entries=int(a.size),
        largest=_finite(float(np.abs(apart).max(initial=0.0))),
        relative=_finite(norm / reference) if reference else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _same_shape(a: Tensors, b: Tensors, name: str) -> bool:
    return bool(a[name].shape == b[name].shape)


def _shapes(tensors: Tensors) -> list[tuple[int, ...]]:
    return [array.shape for array in tensors.values()]
