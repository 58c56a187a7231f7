"""The fits of a layer at several strengths, and their solutions for its update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from flain_core.blocks import handed_over, is_small, row_blocks
from flain_core.network import Array, Layer
from flain_core.updates import difference

from .input_space import InputSpace
from .ridge import Ridge

_BYTES_KEPT = 32 * 2**20
_BLOCKS_PER_PART = 4


@dataclass(frozen=True, eq=False)
class Fits:
    """What is fitted to one layer's inputs. What is small is made once and kept.

    A level is any whole number, and stands for the strength of the candidate of that number. Of the
    level that was asked for last, what every solution needs is kept however large it is.

    Attributes:
        layer: A dense layer, with its final weight.
        initial: The layer's initial weight, ``(out, in)``.
        space: How clean samples use the layer's inputs.
    """

    layer: Layer
    initial: Array
    space: InputSpace
    _ridges: dict[int, Ridge] = field(default_factory=dict, init=False)
    _memory: dict[tuple[str, int], Array] = field(default_factory=dict, init=False)
    _last: dict[str, tuple[int, Array]] = field(default_factory=dict, init=False)

    def update(self, block: tuple[slice, slice]) -> Array:
        """Return float64 what training added to some rows and columns of the weight."""
        if self._whole_update is not None:
            return self._whole_update[block]
        return difference(self.layer.weight, self.initial, block)

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
            for outputs, solved in self._solved_anew(level):
                whole[:, outputs] = solved
            return whole

        return self._kept(("update", level), solve)

    def solution(self, update: Array, level: int) -> Array:
        """``(n * positions, rows)``: the solution for an update ``(rows, in)``; it is not kept."""
        ridge, root = self.ridge(level), self.root(level)
        return ridge.solved(ridge.target(update, slice(0, update.shape[1]), root), root)

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
        for outputs, solved in parts:
            yield outputs, self.taken_by(solved, level, unseen=unseen)

    def taken_by(self, solved: Array, level: int, *, unseen: bool) -> Array:
        """``(n * positions, rows)``: what is taken from the samples, by a solution."""
        if not unseen:
            return self.ridge(level).taken(solved, None)

        def leave_out() -> Array:
            return self.ridge(level).without(self.root(level), bias=self.layer.bias is not None)

        without = self._kept_until_another("without", level, leave_out)
        return self.ridge(level).taken(solved, without)

    def _solved_anew(self, level: int) -> Iterator[tuple[slice, Array]]:
        """Yield solutions for some outputs at a time: not too few, as each reads all inputs."""
        beside = len(self.space.centred) // _BLOCKS_PER_PART
        for outputs in row_blocks(self.layer.weight, beside=beside):
            yield outputs, self.solution(self.update(np.s_[outputs, :]), level)

    def _kept(self, key: tuple[str, int], made: Callable[[], Array]) -> Array:
        """Return what is made once, and is kept as far as there is room.

        The roots of other levels go first, as with a solution they are not needed again, and then
        what is largest.
        """
        memory = self._memory
        if key in memory:
            return memory[key]

        def goes_first(other: tuple[str, int]) -> bool:
            return other[0] == "root" and other[1] != key[1]

        memory[key] = kept = made()
        while sum(each.nbytes for each in memory.values()) > _BYTES_KEPT:
            del memory[max(memory, key=lambda each: (goes_first(each), memory[each].nbytes))]
        return kept

    def _kept_until_another(self, kind: str, level: int, made: Callable[[], Array]) -> Array:
        """Return what is made once; the last of each kind is kept, however large."""
        last = self._last.get(kind)
        if last is None or last[0] != level:
            self._last.pop(kind, None)
            self._last[kind] = last = level, self._kept((kind, level), made)
        return last[1]

    @cached_property
    def _whole_update(self) -> Array | None:
        """What training added to the whole weight, if that is small; else None."""
        final = self.layer.weight
        if not is_small(final.size * np.dtype(np.float64).itemsize):
            return None
        return handed_over(np.subtract(final, self.initial, dtype=np.float64))
