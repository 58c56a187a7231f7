"""Samples too large to keep, drawn anew from their loader in each pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter

import numpy as np

from flain_core.errors import DataError
from flain_core.network import Array, Batch

from .first_pass import FirstPass
from .items import each_leaf, fits_a_batch, is_one_hot_sample, leaf_lengths, together
from .pairs import Pairs

SHARE_KEPT = 8
"""An eighth of the memory limit is for the inputs of a loader."""


class SampleStream:
    """Samples of a loader, of which one of its batches is in memory at a time.

    Reading forward goes on with a pass; reading back begins another one. Every sample is compared
    with that of the first pass, by hash.

    Args:
        pairs: Batches or samples, the same ones in each pass.
        given: Those of the first pass, of which some were kept until now.
        batches: Tells batches from samples; None looks at the first pair.

    Attributes:
        first: Notes of the first pass.

    Raises:
        DataError: The samples cannot be used, or the loader fails or gives them only once.
    """

    def __init__(
        self,
        pairs: Pairs,
        given: Iterable[tuple[Batch, Array]],
        batches: bool | None,
    ) -> None:
        self._pairs, self._batches = pairs, batches
        if pairs.only_once:
            raise DataError(
                f"{pairs.name}: a {pairs.kind} gives its samples once, and these are too many to "
                "keep; give a loader or dataset that can be gone through again, a few hundred "
                f"samples, or a larger memory_limit, of which inputs may take 1/{SHARE_KEPT}"
            )
        self.first = FirstPass(self._batched(given), pairs.name)
        self._pass: Iterator[tuple[Batch, Array]] | None = None
        self._here: tuple[Batch, Array] | None = None
        self._start = 0

    def draw(self, rows: Array, *, last: int) -> Batch:
        """Return the inputs of some samples.

        Args:
            rows: Their indices, at least one, ascending.
            last: The index at which the pass ends, and the loader is let go of.

        Raises:
            DataError: The loader fails, ends early, or gives other samples than in the first pass.
        """
        if self._pass is None or rows[0] < self._start:
            self._begin()
        try:
            parts = list(self._parts(rows))
        except BaseException:
            self._end()
            raise
        if rows[-1] >= last:
            self._end()
        types = iter(self.first.types)
        return together(parts, lambda arrays: _whole(arrays).astype(next(types), copy=False))

    def _parts(self, rows: Array) -> Iterator[Batch]:
        """Yield copies of the samples, batch by batch of the loader."""
        while True:
            x, y = self._here or self._next()
            stop = self._start + len(y)
            some = rows[slice(*np.searchsorted(rows, (self._start, stop)))]
            if some.size:
                chosen = some - self._start
                part = each_leaf(x, itemgetter(chosen))
                other = self.first.other(part, y[chosen], some)
                if other is not None:
                    raise DataError(
                        f"{self._pairs.name}: sample {other} is not what it was when the "
                        f"{self._pairs.kind} was first read; {self._remedy}"
                    )
                yield part
            if stop > rows[-1]:
                return
            self._here, self._start = None, stop

    def _begin(self) -> None:
        self._end()
        self._pass = self._batched(self._pairs)

    def _end(self) -> None:
        self._pass = self._here = None
        self._start = 0

    def _next(self) -> tuple[Batch, Array]:
        assert self._pass is not None  # noqa: S101  a pass was begun
        self._here = next(self._pass, None)
        if self._here is None:
            raise DataError(
                f"{self._pairs.name}: the {self._pairs.kind} ended after {self._start} samples, "
                f"and gave {len(self.first)} when it was first read; {self._remedy}"
            )
        return self._here

    def _batched(self, pairs: Iterable[tuple[Batch, Array]]) -> Iterator[tuple[Batch, Array]]:
        """Yield batches of at least one sample."""
        for x, y in pairs:
            fits = fits_a_batch(x, y)
            if self._batches is None:
                self._batches = fits and not is_one_hot_sample(x, y)
            if not self._batches:
                yield each_leaf(x, lambda leaf: leaf[np.newaxis]), y[np.newaxis]
            elif not fits:
                raise DataError(
                    f"{self._pairs.name}: expected batches with one label for each sample; got "
                    f"{sorted(leaf_lengths(x))} samples and labels of shape {y.shape}"
                )
            elif len(y):
                yield x, y

    @property
    def _remedy(self) -> str:
        return (
            "inputs too large to keep are read anew in each pass, so they have to come in the same "
            "order and unchanged: give a loader with shuffle=False and without random "
            f"augmentation, or a memory_limit of {SHARE_KEPT * self.first.nbytes:,} bytes, which "
            "keeps them"
        )


def _whole(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
