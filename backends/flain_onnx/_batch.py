"""Turns samples into feeds of a graph, in chunks where the model has a fixed batch size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ValueInfoProto, helper

from flain_core.backend_kit import check_in_range
from flain_core.errors import ModelError
from flain_core.network import Array, Batch

from ._axes import FIRST, axis_of, has_free_batch, placed

_LARGEST_FIXED = 4096
"""The most samples to which a batch is filled up for a model of a fixed batch size."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """A batch of n samples for a model that takes ``size`` of them at once."""

    feeds: Mapping[str, Array]
    """``(n, ...)`` for each input of the graph."""
    samples: int
    size: int
    axes: Mapping[str, int | None]
    """Along which axis the model takes the samples of each input; None if all share one."""

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield feeds of ``size`` samples each; the last ones repeat the last sample."""
        for start in range(0, self.samples, self.size):
            yield {
                name: placed(_filled(array[start : start + self.size], self.size), self.axes[name])
                for name, array in self.feeds.items()
            }

    def joined(self, scores: list[Array]) -> Array:
        """Join the scores of each chunk: ``(n, ...)``, float32 or float64, in their own memory."""
        for each in scores:
            if each.ndim == 0 or len(each) != self.size:
                raise ModelError(
                    f"expected scores with one row for each of the {self.size} samples; the model "
                    f"gave shape {each.shape}; choose the output with "
                    "flain_onnx.load(path, scores=name)"
                )
        wide = np.promote_types(scores[0].dtype, np.float32)
        whole = scores[0] if len(scores) == 1 else np.concatenate(scores)
        return whole[: self.samples].astype(wide)


def chunks_of(x: Batch, inputs: Mapping[str, ValueInfoProto]) -> Chunks:
    """Cast samples to what a graph reads; a tuple is in the order of its inputs."""
    given = _by_name(x, list(inputs))
    feeds = {name: _cast(name, given[name], value) for name, value in inputs.items()}
    counts = {len(array) for array in feeds.values()}
    free = has_free_batch(inputs)
    axes = {name: axis_of(name, value, feeds[name], free) for name, value in inputs.items()}
    shapes = (inputs[name].type.tensor_type.shape.dim for name in inputs if axes[name] == FIRST)
    # Some exporters write a free axis as -1.
    fixed = {size for shape in shapes if shape and (size := int(shape[0].dim_value)) > 0}
    if len(counts) != 1 or 0 in counts or len(fixed) > 1:
        given = {name: array.shape for name, array in feeds.items()}
        raise ModelError(
            "expected inputs (n, ...) with one n of at least 1, and a model whose inputs agree "
            f"about it; got {given}, and the model fixes {sorted(fixed) or 'none'}"
        )
    (samples,) = counts
    (size,) = fixed or counts
    if size > max(samples, _LARGEST_FIXED):
        raise ModelError(
            f"the model takes {size:,} samples at once, no more and no less; expected at most "
            f"{_LARGEST_FIXED:,}, or as many as there are; export it with a free batch axis"
        )
    return Chunks(feeds, samples, size, axes)


def _by_name(x: Batch, names: list[str]) -> Mapping[str, Any]:
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise ModelError(f"expected the inputs {names}; got {list(x)}")
        return x
    arrays = x if isinstance(x, tuple) else (x,)
    if len(arrays) != len(names):
        raise ModelError(
            f"the model has the inputs {names}; got {len(arrays)} array(s); give x as a tuple in "
            "that order, or as a dict by name"
        )
    return dict(zip(names, arrays, strict=True))


def _cast(name: str, array: Any, value: ValueInfoProto) -> Array:
    array = np.asarray(array)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise ModelError(
            f"input {name!r}: expected numbers (n, ...); got {array.dtype} of shape {array.shape}"
        )
    wanted = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if wanted.kind in "iub" and array.dtype.kind == "f":
        raise ModelError(
            f"input {name!r}: the model reads {wanted}; got {array.dtype}; convert it yourself, so "
            "that nothing is rounded by accident"
        )
    if wanted.kind == "f":
        check_in_range(array, wanted)
    # A copy, also where nothing is cast: a loader may reuse the array of one batch for the next.
    return np.array(array, dtype=wanted, order="C")


def _filled(array: Array, size: int) -> Array:
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
