"""Letters: questions as arrays, without those that the reader keeps from earlier ones.

A reader that keeps arrays between two questions names them by hash in its answer. The next letter
then has the hash in their place. One that has lost them asks for the whole letter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from flain_core.errors import DataError
from flain_core.network import Array
from flain_core.provenance.fingerprint import of_tensor

__all__ = [
    "LACKING",
    "LackingError",
    "Letter",
    "Memory",
    "asks_for_all",
    "keeps",
    "opened",
    "with_memory",
]

Memory: TypeAlias = "MutableMapping[str, Array]"
"""What a holder keeps from one question to the next: arrays by hash, in hexadecimal."""

_BY_HASH = "hash of "
_KEPT = "kept"
_LACKING = "lacking"
_WORTH_KEEPING = 1024
_DIGEST = len(of_tensor(np.zeros(1)))

LACKING: Mapping[str, Array] = {_LACKING: np.ones(1, dtype=np.uint8)}
"""The answer that asks for the whole letter."""


class LackingError(DataError):
    """A letter leaves out what its reader does not have, or has no more."""


@dataclass(frozen=True, eq=False)
class Letter:
    """A whole letter.

    Attributes:
        arrays: Everything, by name.
        hashes: Of the arrays that are worth keeping, by name, in hexadecimal.

    Example:
        >>> letter = Letter.of({"task": np.zeros(3), "trained 0": np.ones(500)})
        >>> memory = {}
        >>> first = opened(letter.without(()), memory)
        >>> answer = with_memory({"count": np.ones(1)}, memory)
        >>> shorter = letter.without(keeps(answer))
        >>> sorted(shorter), sorted(opened(shorter, memory))
        (['hash of trained 0', 'task'], ['task', 'trained 0'])
    """

    arrays: Mapping[str, Array]
    hashes: Mapping[str, str]

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Letter:
        """Return a letter with these arrays."""
        worth = {name: each for name, each in arrays.items() if each.nbytes >= _WORTH_KEEPING}
        return cls(arrays, {name: of_tensor(each).hex() for name, each in worth.items()})

    def __or__(self, other: Letter) -> Letter:
        """Return a letter with the arrays of both."""
        return Letter({**self.arrays, **other.arrays}, {**self.hashes, **other.hashes})

    def without(self, held: Collection[str]) -> dict[str, Array]:
        """Return the arrays to send to a reader who has those of some hashes."""
        sent: dict[str, Array] = {}
        for name, array in self.arrays.items():
            hashed = self.hashes.get(name)
            if hashed is not None and hashed in held:
                sent[_BY_HASH + name] = _packed([hashed])
            else:
                sent[name] = array
        return sent


def opened(letter: Mapping[str, Array], memory: Memory | None = None) -> dict[str, Array]:
    """Return everything that a letter says; the memory then has what of it is worth keeping.

    Args:
        letter: As it came.
        memory: What the reader kept; None if it keeps nothing.

    Raises:
        LackingError: The letter leaves out an array that is not in the memory.
        DataError: A hash is none.
    """
    arrays: dict[str, Array] = {}
    now: dict[str, Array] = {}
    for name, array in letter.items():
        if name.startswith(_BY_HASH):
            hashed = "".join(_unpacked(array))
            if memory is None or hashed not in memory:
                raise LackingError(f"expected {name!r} to be among what is kept; it is not")
            arrays[name.removeprefix(_BY_HASH)] = now[hashed] = memory[hashed]
        else:
            arrays[name] = array
            if memory is not None and array.nbytes >= _WORTH_KEEPING:
                now[of_tensor(array).hex()] = array
    if memory is not None:
        for hashed in set(memory) - set(now):
            del memory[hashed]
        for hashed in set(now) - set(memory):
            memory[hashed] = now[hashed]
    return arrays


def with_memory(answer: Mapping[str, Array], memory: Memory | None) -> dict[str, Array]:
    """Return an answer that also tells what its writer keeps."""
    return {**answer, _KEPT: _packed(memory)} if memory else dict(answer)


def keeps(answer: Mapping[str, Array]) -> frozenset[str]:
    """Return the hashes of what the writer of an answer keeps.

    Raises:
        DataError: They are none.
    """
    return frozenset(_unpacked(answer[_KEPT])) if _KEPT in answer else frozenset()


def asks_for_all(answer: Mapping[str, Array]) -> bool:
    """Return whether an answer asks for the whole letter."""
    return _LACKING in answer


def _packed(hashes: Iterable[str]) -> Array:
    return np.frombuffer(b"".join(map(bytes.fromhex, hashes)), dtype=np.uint8)


def _unpacked(array: Array) -> list[str]:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.size % _DIGEST:
        raise DataError("expected hashes, as SHA-256 makes them")
    text = array.tobytes().hex()
    return [text[start : start + 2 * _DIGEST] for start in range(0, len(text), 2 * _DIGEST)]
