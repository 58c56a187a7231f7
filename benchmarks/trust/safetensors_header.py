"""Mutates the JSON at the beginning of a ``.safetensors`` file, and its length."""

from __future__ import annotations

import json
from random import Random

from . import raw, trees

_WORDS = (
    *("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "C64", "F8_E4M3", "F4", "F8_E8M0", "X"),
    *([0, 0], [0, 2**63], [4, 0], [0], [3, 6], [2**32, 2**32], [-3, -6], "__metadata__"),
    {"dtype": "F32", "shape": [3, 6], "data_offsets": [0, 72]},
)


def mutated(rng: Random, content: bytes) -> bytes:
    """Return the file with another header."""
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    written = trees.text(rng, trees.mutated(rng, header, _WORDS))
    told = len(written)
    how = rng.random()
    if how < 0.1:
        told = rng.choice((0, 1, told - 1, told + 1, 2**31, 2**63, 2**64 - 1, 100_000_001))
    elif how < 0.2:
        rest = raw.mutated(rng, rest)
    return told.to_bytes(8, "little") + written + rest
