"""Mutates ZIP archives member by member, and what they say of their members."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from random import Random
from typing import TypeAlias
from warnings import catch_warnings
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from . import raw

Change: TypeAlias = Callable[[Random, bytes], bytes]

_NAMES = ("../outside", "/tmp/outside", "", "a" * 300, "x.npy", "\0", "weights/../../outside")  # noqa: S108
_BOMB = 512 * 2**20
_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def members(archive: bytes) -> dict[str, bytes]:
    """Return what an archive holds, by name."""
    with ZipFile(BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def packed(held: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = ZIP_STORED) -> bytes:
    """Return an archive; equal members give equal bytes."""
    stream = BytesIO()
    pairs = held.items() if isinstance(held, Mapping) else held
    with ZipFile(stream, "w") as file, catch_warnings(action="ignore"):
        for name, content in pairs:
            file.writestr(ZipInfo(name), content, compress_type=method)
    return stream.getvalue()


def mutated(rng: Random, archive: bytes, changes: Mapping[str, Change]) -> bytes:
    """Return an archive with one member, or one record about a member, changed.

    Args:
        rng: Chooses.
        archive: The archive.
        changes: How to change members, by the end of their names; the others are changed as bytes.
    """
    held = list(members(archive).items())
    index = rng.randrange(len(held))
    name, content = held[index]
    how = rng.random()
    if how < 0.6:
        change = next((each for end, each in changes.items() if name.endswith(end)), None)
        held[index] = name, (change or raw.mutated)(rng, content)
    elif how < 0.66:
        held[index] = rng.choice(_NAMES), content
    elif how < 0.7:
        del held[index]
    elif how < 0.75:
        held[index] = name, rng.choice(held)[1]
    elif how < 0.8:
        # The same name twice, with another content.
        held.append((f"{name}", raw.mutated(rng, content)))
    elif how < 0.83:
        return _bomb(packed(held), name)
    elif how < 0.95:
        return _lying(rng, packed(held))
    return packed(held, rng.choice((ZIP_DEFLATED, ZIP_STORED)))


def _lying(rng: Random, archive: bytes) -> bytes:
    """Change one field of a record: a size, a method, a flag, an offset."""
    kind = rng.choice((_LOCAL, _CENTRAL))
    starts = [at for at in range(len(archive)) if archive.startswith(kind, at)]
    if not starts:
        return raw.mutated(rng, archive)
    shift = 2 if kind == _CENTRAL else 0
    field, width = rng.choice(((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)))
    at = rng.choice(starts) + field + shift
    value = rng.choice((0, 1, 8, 12, 99, 2 ** (8 * width) - 1, rng.randrange(2 ** (8 * width))))
    return archive[:at] + value.to_bytes(width, "little") + archive[at + width :]


def _bomb(archive: bytes, name: str) -> bytes:
    """Let a member unpack to half a gibibyte of nothing."""
    held = members(archive)
    crc, deflated = _nothing()
    stream = BytesIO()
    with ZipFile(stream, "w") as file:
        for each, content in held.items():
            info = ZipInfo(each)
            file.writestr(info, deflated if each == name else content)
    changed = bytearray(stream.getvalue())
    for kind, shift in ((_LOCAL, 0), (_CENTRAL, 2)):
        at = changed.find(kind)
        while at >= 0:
            size = 46 if shift else 30
            length = int.from_bytes(changed[at + 26 + shift : at + 28 + shift], "little")
            if bytes(changed[at + size : at + size + length]) == name.encode():
                struct.pack_into("<H", changed, at + 8 + shift, ZIP_DEFLATED)
                struct.pack_into("<III", changed, at + 14 + shift, crc, len(deflated), _BOMB)
            at = changed.find(kind, at + 4)
    return bytes(changed)


@cache
def _nothing() -> tuple[int, bytes]:
    part = bytes(2**20)
    packer = zlib.compressobj(9, wbits=-15)
    crc, parts = 0, []
    for _ in range(_BOMB // len(part)):
        crc = zlib.crc32(part, crc)
        parts.append(packer.compress(part))
    return crc, b"".join((*parts, packer.flush()))
