"""The options of a purification, by name: what callers of :func:`flain_core.purify` may pass on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar

from .errors import nearest

if TYPE_CHECKING:
    from .outputs import Outputs
    from .progress import OnProgress
    from .score import Score
    from .settings import Settings

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")

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
    again: bool


def check_names(options: Mapping[str, object], caller: str, *others: str) -> None:
    """Raise :class:`TypeError` for options that :func:`flain_core.purify` does not have.

    Args:
        options: What was given, by name.
        caller: The function that it was given to.
        others: What the caller takes beside those options.

    >>> check_names({"tolerance": 0.01}, "purify_arrays")
    Traceback (most recent call last):
        ...
    TypeError: purify_arrays() got an unexpected keyword argument 'tolerance'; it is one of the
    settings: say settings=flain.Settings(tolerance=0.01)
    """
    known = [*others, *sorted(PurifyOptions.__optional_keys__)]
    for name, value in options.items():
        if name not in known:
            raise TypeError(
                f"{caller}() got an unexpected keyword argument {name!r}"
                f"{_remedy(name, value, known)}"
            )


def explains_wrong_calls(function: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
    """Wrap :func:`flain_core.purify`, so that a call it does not take is told how to be typed."""
    taken = signature(function)
    known = list(taken.parameters)
    named = "initial=initial, data=data"

    @wraps(function)
    def told(*given: _Given.args, **options: _Given.kwargs) -> _Returned:
        if len(given) > 1:
            raise TypeError(
                f"expected one model and all else by name; got {len(given)} arguments without a "
                f"name. Type {function.__name__}(final, {named}), where initial is the model that "
                "training started from"
            )
        check_names(options, function.__name__, *known)
        missing = [name for name in known if taken.parameters[name].default is Parameter.empty]
        missing = [name for name in missing[len(given) :] if name not in options]
        if missing:
            raise TypeError(
                f"{function.__name__}() lacks {' and '.join(missing)}; type "
                f"{function.__name__}(final, {named}), where final is the trained model, initial "
                "the one that training started from, and data some hundred clean samples (x, y)"
            )
        return function(*given, **options)

    return told


def _remedy(name: str, value: object, known: Iterable[str]) -> str:
    from .settings import Settings

    if name in {each.name for each in fields(Settings)}:
        return f"; it is one of the settings: say settings=flain.Settings({name}={value!r})"
    return f".{hint}" if (hint := nearest(name, known)) else ""
