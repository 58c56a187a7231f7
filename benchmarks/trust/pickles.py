"""Writes the pickle of a ``.pt`` file anew, with other functions, sizes and types in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import Any

from . import raw


@dataclass(frozen=True)
class _Global:
    module: str
    name: str


@dataclass(frozen=True)
class _Call:
    function: Any
    arguments: Any


@dataclass(frozen=True)
class _Stored:
    identity: Any


_NUMBERS = (-1, 0, 1, 3, 6, 18, 2**31, 2**40, 2**62, 10**30, None, "x", 1.5, True)
_STORAGES = (
    "FloatStorage",
    "DoubleStorage",
    "QInt8Storage",
    "ComplexFloatStorage",
    "UntypedStorage",
)
_HARMFUL = (
    _Call(_Global("os", "system"), ("touch outside",)),
    _Call(_Global("builtins", "eval"), ("open('outside', 'w')",)),
    _Call(_Global("builtins", "getattr"), (_Global("torch", "Tensor"), "__init__")),
    _Call(_Global("torch.hub", "load"), ("a/b", "c")),
    _Global("torch", "nonsense"),
    _Call(_Global("collections", "OrderedDict"), ([1, 2],)),
    _Call(_Global("torch", "Size"), ([2**62, -1],)),
    _Call(_Global("torch", "device"), ("cuda:99",)),
    _Call(_Global("builtins", "bytearray"), (2**40,)),
    _Call(_Global("torch.nn", "Linear"), (10**6, 10**6)),
)
_REBUILD = (
    *("_rebuild_tensor_v2", "_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter"),
    *("_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_meta_tensor_no_storage"),
    *("_rebuild_nested_tensor", "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy"),
)


def mutated(rng: Random, content: bytes) -> bytes:
    """Return another pickle for the same archive, or the same one with other bytes."""
    if rng.random() < 0.3:
        return raw.mutated(rng, content)
    weights: dict[Any, Any] = {
        "weight": _tensor(rng, "0", (3, 6), (6, 1)),
        "bias": _tensor(rng, "1", (3,), (1,)),
    }
    state: Any = weights
    how = rng.random()
    if how < 0.2:
        weights["bias"] = rng.choice(_HARMFUL)
    elif how < 0.3:
        weights[rng.choice((1, None, "", "a" * 5000, (1,)))] = weights["bias"]
    elif how < 0.4:
        state = rng.choice(({"state_dict": weights}, {"model": {"model": weights}}, [weights], 7))
    elif how < 0.45:
        for _ in range(rng.choice((100, 20_000))):
            state = (state,)
    return b"\x80\x02" + _encoded(state) + b"."


def _tensor(rng: Random, key: str, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    def odd(value: Any, *others: Any) -> Any:
        return rng.choice((*others, *_NUMBERS)) if rng.random() < 0.12 else value

    numel = 1
    for each in size:
        numel *= each
    storage = _Global("torch", odd("FloatStorage", *_STORAGES))
    name = rng.choice(_REBUILD) if rng.random() < 0.2 else _REBUILD[0]
    identity = ("storage", storage, odd(key, "0", "../x"), odd("cpu", "meta", "cuda"), odd(numel))
    return _Call(
        _Global("torch._utils", name),
        (
            _Stored(identity),
            odd(0),
            odd(tuple(map(odd, size)), ()),
            odd(tuple(map(odd, stride)), (-1, -1), (2**62, 1)),
            odd(False),
            _Call(_Global("collections", "OrderedDict"), ()),
        ),
    )


def _encoded(value: Any) -> bytes:
    """Pickle plain values, and what :class:`_Global` and its like stand for."""
    if isinstance(value, tuple) and len(value) == 1:
        # Without recursion, so that tuples can nest as deep as they like.
        depth = 0
        while isinstance(value, tuple) and len(value) == 1:
            value, depth = value[0], depth + 1
        return _encoded(value) + b"\x85" * depth
    if isinstance(value, _Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, _Call):
        return _encoded(value.function) + _encoded(value.arguments) + b"R"
    if isinstance(value, _Stored):
        return _encoded(value.identity) + b"Q"
    if isinstance(value, dict):
        return b"}(" + b"".join(_encoded(k) + _encoded(v) for k, v in value.items()) + b"u"
    if isinstance(value, (tuple, list)):
        inside = b"".join(map(_encoded, value))
        return b"(" + inside + b"t" if isinstance(value, tuple) else b"](" + inside + b"e"
    return _plain(value)


def _plain(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        width = value.bit_length() // 8 + 1
        return bytes((0x8A, width)) + value.to_bytes(width, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    told = str(value).encode()
    return b"X" + struct.pack("<I", len(told)) + told
