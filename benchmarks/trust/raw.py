"""Mutates bytes that mean nothing to it, as a fuzzer does that knows no format."""

from __future__ import annotations

from random import Random

_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS = tuple(
    number.to_bytes(width, order, signed=True)
    for width in (2, 4, 8)
    for number in (-1, 0, 1, -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    for order in ("little", "big")
)
_MOST_CHANGES = (1, 1, 2, 4, 8)


def mutated(rng: Random, content: bytes, other: bytes = b"") -> bytes:
    """Return bytes with a few changes; ``other`` is what parts may be taken from."""
    changed = bytearray(content)
    for _ in range(rng.choice(_MOST_CHANGES)):
        _change(rng, changed, other)
    return bytes(changed)


def _change(rng: Random, changed: bytearray, other: bytes) -> None:
    if not changed:
        changed.extend(rng.randbytes(rng.randrange(1, 64)))
        return
    at = rng.randrange(len(changed))
    length = rng.choice((1, 2, 4, 8, 20, 200))
    how = rng.random()
    if how < 0.25:
        changed[at] ^= 1 << rng.randrange(8)
    elif how < 0.4:
        changed[at] = rng.randrange(256)
    elif how < 0.5:
        changed[at] = rng.choice(_EDGES)
    elif how < 0.65:
        word = rng.choice(_WORDS)
        changed[at : at + len(word)] = word
    elif how < 0.75:
        del changed[at : at + length]
    elif how < 0.85:
        changed[at:at] = rng.randbytes(length)
    elif how < 0.92:
        source = other or bytes(changed)
        start = rng.randrange(len(source))
        changed[at : at + rng.choice((0, length))] = source[start : start + length]
    elif how < 0.95:
        del changed[at:]
    else:
        # A part that comes many times, as a table that says of itself that it is long.
        changed[at:at] = bytes(changed[at : at + length]) * rng.choice((2, 50, 1000))
