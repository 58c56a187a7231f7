"""The options of a purification, by name: what callers of :func:`flain_core.purify` may pass on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from .outputs import Outputs
    from .progress import OnProgress
    from .score import Score
    from .settings import Settings

MEMORY_LIMIT = 2 * 2**30
"""Bytes that may be spent on keeping batches at the layer, unless told otherwise."""


class SampleOptions(TypedDict, total=False):
    """Options of how samples are measured; :func:`flain_core.purify` explains each."""

    probes: Mapping[str, Any] | None
    score: Score
    outputs: Outputs | None
    batch_size: int | None
    memory_limit: int


class PurifyOptions(SampleOptions, total=False):
    """Every option of :func:`flain_core.purify`."""

    layers: str | Sequence[str]
    settings: Settings | None
    progress: bool | OnProgress
    seed: int


def check_names(options: Mapping[str, object], caller: str) -> None:
    """Raise :class:`TypeError` for options that :func:`flain_core.purify` does not have.

    >>> check_names({"tolerance": 0.01}, "purify_arrays")
    Traceback (most recent call last):
        ...
    TypeError: purify_arrays() got an unexpected keyword argument 'tolerance'
    """
    for name in options:
        if name not in PurifyOptions.__optional_keys__:
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
