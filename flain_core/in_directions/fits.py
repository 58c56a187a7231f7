"""The fits of a layer at several strengths, and their solutions for its update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flain_core.blocks import is_small, row_blocks
from flain_core.network import Array, Layer

from .input_space import InputSpace
from .ridge import Ridge

__all__ = ["Fits"]

_BYTES_KEPT = 64 * 2**20
_BLOCKS_SOLVED_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Fits:
    """What is fitted to one layer's inputs; what is small is made once and kept.

    A level is the number of a candidate, from 1, and stands for its strength.

    Attributes:
        layer: A dense layer, with its final weight.
        initial: The layer's initial weight, ``(out, in)``.
        space: How clean samples use the layer's inputs.
    """

    layer: Layer
    initial: Array
    space: InputSpace

    def update(self, block: tuple[slice, slice]) -> Array:
        """Return float64 what training added to some rows and columns of the weight."""
        if self._whole_update is not None:
            return self._whole_update[block]
        update: Array = np.subtract(self.layer.weight[block], self.initial[block], dtype=np.float64)
        return update

    def ridge(self, level: int) -> Ridge:
        """Return the fit at a level."""
        if level not in self._ridges:
            self._ridges[level] = Ridge(self.space, self.space.strength(level))
        return self._ridges[level]

    def root(self, level: int) -> Array:
        """Return the root of a fit, as :meth:`Ridge.root` does."""
        return self._kept_until_another("root", level, self.ridge(level).root)

    def solved(self, level: int) -> Array:
        """``(n * positions, out)``: the solution for the whole update."""

        def solve() -> Array:
            whole = np.empty((len(self.space.centred), len(self.layer.weight)))
            for rows, solved in self._solved_anew(level):
                whole[:, rows] = solved
            return whole

        return self._kept(("update", level), solve)

    def solved_of(self, says: Array, level: int) -> Array:
        """``(n * positions, k)``: the solution for what the update says ``(k, in)`` of classes.

        That must be the same in every call.
        """
        return self._kept(("classes", level), lambda: self._solution(level, says))

    def taken(self, level: int, *, unseen: bool) -> Iterator[tuple[slice, Array]]:
        """Yield some outputs, and ``(n * positions, outputs)`` what is taken from them.

        Args:
            level: The fit.
            unseen: Judge each sample as if it had had no part in the fit.
        """
        size = 8 * len(self.space.centred) * len(self.layer.weight)
        if is_small(size) or ("update", level) in self._memory:
            parts = iter([(slice(None), self.solved(level))])
        else:
            parts = self._solved_anew(level)
        for rows, solved in parts:
            yield rows, self._taken(solved, level, unseen=unseen)

    def taken_of(self, says: Array, level: int, *, unseen: bool) -> Array:
        """``(n * positions, k)``: what is taken from what the update says of classes."""
        return self._taken(self.solved_of(says, level), level, unseen=unseen)

    def _taken(self, solved: Array, level: int, *, unseen: bool) -> Array:
        if not unseen:
            return self.ridge(level).taken(solved, None)

        def leave_out() -> Array:
            return self.ridge(level).without(self.root(level), bias=self.layer.bias is not None)

        without = self._kept_until_another("without", level, leave_out)
        return self.ridge(level).taken(solved, without)

    def _solved_anew(self, level: int) -> Iterator[tuple[slice, Array]]:
        """Yield solutions for some outputs at a time: not too few, as each reads all inputs."""
        at_once = len(self.space.centred) // _BLOCKS_SOLVED_AT_ONCE
        for rows in row_blocks(self.layer.weight, beside=at_once):
            yield rows, self._solution(level, self.update(np.s_[rows, :]))

    def _solution(self, level: int, update: Array) -> Array:
        ridge, root = self.ridge(level), self.root(level)
        return ridge.solved(ridge.target(update, slice(0, update.shape[1]), root), root)

    def _kept(self, key: tuple[str, int], made: Callable[[], Array]) -> Array:
        """Return what is made once; it is kept, and what is largest goes if all is too large."""
        memory = self._memory
        if key in memory:
            return memory[key]
        memory[key] = kept = made()
        while sum(each.nbytes for each in memory.values()) > _BYTES_KEPT:
            del memory[max(memory, key=lambda each: memory[each].nbytes)]
        return kept

    def _kept_until_another(self, kind: str, level: int, made: Callable[[], Array]) -> Array:
        """Return the same; however large, it stays until that of another level is asked for."""
        if self._last.get(kind, (0, None))[0] != level:
            self._last.pop(kind, None)
            self._last[kind] = level, self._kept((kind, level), made)
        return self._last[kind][1]

    @cached_property
    def _whole_update(self) -> Array | None:
        """What training added to the whole weight, if that is small; else None."""
        final = self.layer.weight
        if not is_small(final.size * np.dtype(np.float64).itemsize):
            return None
        update: Array = np.subtract(final, self.initial, dtype=np.float64)
        return update

    @cached_property
    def _memory(self) -> dict[tuple[str, int], Array]:
        return {}

    @cached_property
    def _ridges(self) -> dict[int, Ridge]:
        return {}

    @cached_property
    def _last(self) -> dict[str, tuple[int, Array]]:
        return {}
