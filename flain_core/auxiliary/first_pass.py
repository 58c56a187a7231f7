"""Notes of the first pass over samples too large to keep: a label, and hashes of each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from flain_core.errors import DataError
from flain_core.network import Array, Batch

from .items import check_inputs, hashes, leaves
from .pixel_look import are_pixels, brightest


class FirstPass:
    """Notes of a first pass, by which later ones are known to give the same samples.

    Args:
        batches: Batches of at least one sample.
        name: What error messages call the data.

    Attributes:
        y: Labels, as the loader gave them.
        first_alike: ``(n,)`` for each sample the index of the first one with the same numbers in x.
        nbytes: Bytes of all inputs.
        types: The types of the inputs, in which all batches fit.

    Raises:
        DataError: The samples cannot be used.
    """

    def __init__(self, batches: Iterable[tuple[Batch, Array]], name: str) -> None:
        self._hashes: list[bytes] = []
        self._brightest: list[float] = []
        self.nbytes = 0
        self.types: list[np.dtype[Any]] = []
        labels: list[Array] = []
        alike: list[int] = []
        seen: dict[bytes, int] = {}
        form: object = None
        for x, y in batches:
            check_inputs(x, name)
            if form is not None and form != (_form(x), y.shape[1:]):
                raise DataError(f"{name}: samples of different shapes cannot be batched")
            form = _form(x), y.shape[1:]
            self._look_at(leaves(x))
            # A copy, since a view may keep the whole batch.
            labels.append(np.array(y))
            for of_inputs, of_all in hashes(x, y):
                alike.append(seen.setdefault(of_inputs, len(alike)))
                self._hashes.append(of_all)
        self.y: Array = np.concatenate(labels)
        self.first_alike: Array = np.array(alike, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def are_pixels(self) -> bool:
        """Whether the inputs look like pixels that nobody scaled."""
        return are_pixels(self._brightest)

    def other(self, x: Batch, y: Array, rows: Array) -> int | None:
        """Return the first of some samples that was another one then; None if all are the same."""
        for row, (_, of_all) in zip(rows, hashes(x, y), strict=True):
            if of_all != self._hashes[row]:
                return int(row)
        return None

    def _look_at(self, inputs: list[Array]) -> None:
        if not self.types:
            self.types = [leaf.dtype for leaf in inputs]
            self._brightest = [-math.inf] * len(inputs)
        pairs = zip(self.types, inputs, strict=True)
        self.types = [np.promote_types(known, leaf.dtype) for known, leaf in pairs]
        self._brightest = [
            known if known == math.inf else max(known, brightest(leaf))
            for known, leaf in zip(self._brightest, inputs, strict=True)
        ]
        self.nbytes += sum(leaf.nbytes for leaf in inputs)


def _form(x: Batch) -> object:
    """Return the shapes of a sample's inputs, by name and in the order that they come in."""
    if isinstance(x, dict):
        return [(key, _form(value)) for key, value in x.items()]
    if isinstance(x, tuple):
        return tuple(map(_form, x))
    return x.shape[1:]
