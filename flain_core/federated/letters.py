"""Letters: questions as arrays, without those that the reader keeps from earlier ones.

A reader that keeps arrays between two questions names them by hash in its answer. The next letter
then has the hash in their place. One that has lost them asks for the whole letter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import TypeAlias

import numpy as np

from flain_core.errors import DataError
from flain_core.network import Array
from flain_core.provenance.fingerprint import of_tensor

Letter: TypeAlias = "dict[str, tuple[Array, str]]"
"""A whole letter: each array by name, with its hash in hexadecimal, or "" if not worth keeping."""

Memory: TypeAlias = "MutableMapping[str, Array]"
"""What a holder keeps from one question to the next: arrays by hash, in hexadecimal."""

_BY_HASH = "hash of "
_KEPT = "kept"
_LACKING = "lacking"
_WORTH_KEEPING = 1024
_DIGEST = len(of_tensor(np.zeros(1)))

LACKING: Mapping[str, Array] = {_LACKING: np.ones(1, dtype=np.uint8)}
"""The answer that asks for the whole letter."""


def letter_of(arrays: Mapping[str, Array]) -> Letter:
    """Return a whole letter with these arrays.

    >>> letter = letter_of({"task": np.zeros(3), "trained 0": np.ones(500)})
    >>> memory = {}
    >>> first = opened(shortened(letter, ()), memory)
    >>> answer = with_memory({"count": np.ones(1)}, memory)
    >>> shorter = shortened(letter, keeps(answer))
    >>> sorted(shorter), sorted(opened(shorter, memory))
    (['hash of trained 0', 'task'], ['task', 'trained 0'])
    """
    return {
        name: (array, of_tensor(array).hex() if array.nbytes >= _WORTH_KEEPING else "")
        for name, array in arrays.items()
    }


def shortened(letter: Letter, held: Collection[str]) -> dict[str, Array]:
    """Return the arrays to send to a reader who has those of some hashes."""
    sent: dict[str, Array] = {}
    for name, (array, hashed) in letter.items():
        if hashed and hashed in held:
            sent[_BY_HASH + name] = _packed([hashed])
        else:
            sent[name] = array
    return sent


def opened(sent: Mapping[str, Array], memory: Memory | None = None) -> dict[str, Array] | None:
    """Return everything that a letter says; the memory then has what of it is worth keeping.

    None if the letter leaves out an array that is not in the memory.

    Args:
        sent: The letter as it came.
        memory: What the reader kept; None if it keeps nothing.

    Raises:
        DataError: A hash is none.
    """
    arrays: dict[str, Array] = {}
    now: dict[str, Array] = {}
    for name, array in sent.items():
        if name.startswith(_BY_HASH):
            hashed = "".join(_unpacked(array))
            if memory is None or hashed not in memory:
                return None
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
