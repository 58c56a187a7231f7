"""Pairs ``(x, y)`` that a loader or dataset gives, each time that it is gone through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from flain_core.errors import DataError, FlainError
from flain_core.network import Array, Batch

from .items import pair_of


class Pairs:
    """Pairs ``(x, y)`` of arrays, read anew in each pass.

    Args:
        items: Gives pairs or dicts of columns, batches or samples.
        name: What error messages call the data.
        count: How many items to take by their index, from 0, where they have no end or no iterator
            of their own; None goes through them.
    """

    def __init__(self, items: Any, name: str, count: int | None = None) -> None:
        self._items, self.name, self._count = items, name, count
        self.kind = type(items).__name__
        if count is None and _has_no_end(items):
            raise DataError(
                f"{name}: the {self.kind} repeats its samples without end; leave out its repeat(), "
                "or take as many as there are"
            )

    @property
    def only_once(self) -> bool:
        """Whether one pass uses them up, as that over a generator does."""
        return self._count is None and isinstance(self._items, Iterator)

    def __iter__(self) -> Iterator[tuple[Batch, Array]]:
        """Go through all.

        Raises:
            DataError: An item is no pair, or the loader itself fails.
        """
        given = 0
        try:
            for given, item in enumerate(self._each(), start=1):  # noqa: B007
                yield _pair(item, self.name)
        except FlainError:
            raise
        # Whatever the code of a user's own loader raises.
        except Exception as error:
            # A loader's worker tells where it failed, and in the last line why.
            kind, why = type(error).__name__, str(error).strip().rpartition("\n")[2]
            raise DataError(
                f"{self.name}: the {self.kind} failed after {given} items, and no model was "
                f"changed: {kind}: {why.removeprefix(f'{kind}: ')}"
            ) from error

    def _each(self) -> Iterable[Any]:
        if self._count is None:
            items: Iterable[Any] = self._items
            return items
        return (self._items[index] for index in range(self._count))


def _pair(item: Any, name: str) -> tuple[Batch, Array]:
    if isinstance(item, Mapping) or (isinstance(item, (tuple, list)) and len(item) == 2):
        return pair_of(item, name)
    raise DataError(
        f"{name}: expected the loader or dataset to give (x, y) pairs, or dicts with a "
        f"column of labels; it gives {type(item).__name__}"
        + (f" of length {len(item)}" if isinstance(item, Sized) else "")
    )


def _has_no_end(items: Any) -> bool:
    # TensorFlow's data sets tell their length, and -1 for one that repeats.
    cardinality = getattr(items, "cardinality", None)
    return hasattr(items, "element_spec") and callable(cardinality) and bool(cardinality() == -1)
