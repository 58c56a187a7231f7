"""Hashes of tensors, the same in every framework that holds the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from flain_core.network import Array, Layer


def of_tensor(tensor: Array) -> bytes:
    """Return the SHA-256 of a tensor's type, shape and numbers, ``(32,)`` bytes.

    >>> of_tensor(np.zeros((2, 3))) == of_tensor(np.zeros((3, 2)).T)
    True
    >>> of_tensor(np.zeros((2, 3))) == of_tensor(np.zeros((3, 2)))
    False
    """
    little = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    described = sha256(f"{little.dtype.str}{little.shape}".encode())
    described.update(little.reshape(-1).view(np.uint8).data)
    return described.digest()


def of_model(layers: Mapping[str, Layer]) -> str:
    """Return the SHA-256, in hexadecimal, of the weights and biases of layers, in their order.

    The weights are in the canonical orientation and names do not count, so that exports of the same
    model to several formats have the same hash.
    """
    whole = sha256()
    for layer in layers.values():
        whole.update(of_tensor(layer.weight))
        whole.update(b"" if layer.bias is None else of_tensor(layer.bias))
    return whole.hexdigest()
