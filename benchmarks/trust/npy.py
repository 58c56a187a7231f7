"""Mutates what an array in an ``.npy`` member says of itself."""

from __future__ import annotations

import json
from random import Random

from . import raw, trees

_SHAPES = ("()", "(0,)", "(-1,)", "(2**62,)", "(99999999999999999999,)", "(1000000, 1000000)", "5")
_TYPES = (
    *("'|O'", "'<f2'", "'>f8'", "'<c16'", "'<U999999999'", "'|V0'", "'<M8[s]'", "'|S'", "'<f16'"),
    *("[('a', '<f4')]", "[('a', '|O')]", "'nonsense'", "[]", "('<f4', (2, 2))", "{}", "'?'"),
)


def mutated(rng: Random, content: bytes) -> bytes:
    """Return an array with another header, or another content."""
    head, _, rest = content.partition(b"\n")
    how = rng.random()
    if how < 0.3:
        return raw.mutated(rng, content)
    fields = head[10:].decode("latin-1")
    if how < 0.55:
        start = fields.find("(", fields.find("shape"))
        end = fields.find(")", start) + 1
        fields = fields[:start] + rng.choice(_SHAPES) + fields[end:]
    elif how < 0.8:
        start = fields.find(":") + 2
        end = fields.find(", 'fortran")
        fields = fields[:start] + rng.choice(_TYPES) + fields[end:]
    elif how < 0.85:
        fields = "(" * rng.choice((50, 9000)) + fields
    elif how < 0.9:
        fields = fields.replace("False", rng.choice(("True", "None", "1", "[]")))
    else:
        fields = fields.rstrip() + " " * rng.choice((1, 70_000)) + "\n"
    told = fields.encode("latin-1", "replace")
    version, width = rng.choice(((1, 2), (1, 2), (2, 4), (3, 4), (9, 4)))
    length = len(told) + 1 if rng.random() < 0.9 else rng.randrange(2 ** (8 * width))
    length = min(length, 2 ** (8 * width) - 1)
    return b"".join(
        (b"\x93NUMPY", bytes((version, 0)), length.to_bytes(width, "little"), told, b"\n", rest)
    )


def description(rng: Random, content: bytes) -> bytes:
    """Mutate the description of a network, which is JSON in an array of text."""
    head, _, rest = content.partition(b"\n")
    if rng.random() < 0.2:
        return mutated(rng, content)
    tree = json.loads(rest.decode("utf-32-le"))
    written = trees.text(rng, trees.mutated(rng, tree, _WORDS)).decode("utf-8", "replace")
    fields = f"{{'descr': '<U{len(written)}', 'fortran_order': False, 'shape': (), }}\n".encode()
    return b"".join(
        (head[:8], len(fields).to_bytes(2, "little"), fields, written.encode("utf-32-le"))
    )


_WORDS = (
    *("Dense", "Conv2d", "BatchNorm", "ReLU", "GELU", "MaxPool2d", "Flatten", "Softmax"),
    *({"array": "0.weight"}, {"array": "network"}, {"array": "nothing"}, [0, [1, [2]]], [0, 0]),
    *({"branch": [0, 1], "shortcut": []}, {"branch": [{"branch": [], "shortcut": [0]}]}, -1, 10**6),
)
