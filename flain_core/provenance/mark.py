"""The mark of a purified model: a short text in JSON that its file carries.

It is data and nothing else. What is read from a file is bounded, checked, and never run; a mark
that flain would not write is refused with one error.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, NoReturn, get_args

from flain_core.errors import WeightsError, listed
from flain_core.outcome.outcome import Outcome
from flain_core.outcome.verdict import Verdict

KEY = "flain.purified"
"""Name of the mark in a file: a key of its metadata, an attribute, or a member."""

MOST_BYTES = 48 * 1024
"""A longer text is no mark; what stores one never has to read more."""

_FORMAT = 1
_MOST_LAYERS, _LONGEST_NAME = 32, 100
_VERSION = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def mark_of(result: Outcome) -> str:
    """Return the mark of a purified model: version, settings, hash, promise and verdict."""
    flipped = [layer for layer in result.layers if layer.share]
    said: dict[str, Any] = {
        "format": _FORMAT,
        "flain": result.versions.get("flain", "unknown"),
        "verdict": result.verdict,
        "promise": asdict(result.promise) if result.promise else None,
        "settings": asdict(result.settings),
        "layers": [
            {"name": layer.name[:_LONGEST_NAME], "flip": layer.flip, "share": layer.share}
            for layer in flipped[:_MOST_LAYERS]
        ],
        "layers_in_all": len(flipped),
        "unpurified_sha256": result.unpurified,
    }
    return json.dumps(said, allow_nan=False, sort_keys=True)


def read_mark(text: str | bytes) -> str | None:
    """Return in words what the mark that a file carries says; None if nothing was flipped.

    Raises:
        WeightsError: It is longer than :data:`MOST_BYTES`, or says something that flain would not.

    >>> read_mark("[]")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: the model's file carries a mark that says it was purified, but
    not as flain writes it (no JSON object); the mark or the file is damaged or forged
    """
    if len(text) > MOST_BYTES:
        _refuse(f"more than {MOST_BYTES} bytes")
    try:
        said = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        _refuse("no JSON")
    if not isinstance(said, dict):
        _refuse("no JSON object")
    if said.get("format") != _FORMAT:
        _refuse("another format")
    version, verdict = said.get("flain"), said.get("verdict")
    unpurified, layers = said.get("unpurified_sha256"), said.get("layers")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        _refuse("no version")
    if not isinstance(verdict, str) or verdict not in get_args(Verdict):
        _refuse("no verdict")
    if not isinstance(unpurified, str) or not _SHA256.fullmatch(unpurified):
        _refuse("no SHA-256")
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
        _refuse("no list of layers")
    names = listed([repr(name) for name in map(_name, layers)]) or "no layer"
    told = f"{verdict}: {names}; the tensors before had SHA-256 {unpurified[:16]}…"
    return None if verdict == "not flipped" else f"flain {version} purified it ({told})"


def _name(layer: object) -> str:
    name = layer.get("name") if isinstance(layer, dict) else None
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        _refuse("a layer without a name")
    return name


def _refuse(why: str) -> NoReturn:
    raise WeightsError(
        "the model's file carries a mark that says it was purified, but not as flain writes it "
        f"({why}); the mark or the file is damaged or forged"
    )
