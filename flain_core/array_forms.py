"""The forms in which stacks hand over the arrays of a model: by name, in order, or flat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from .errors import WeightsError, listed
from .network import Array

Arrays: TypeAlias = "Mapping[str, Array] | Sequence[Array] | Array"
"""All arrays of a model: by name, in order, or one after another in a flat vector."""

Form: TypeAlias = Literal["arrays by name", "arrays in order", "a flat vector"]

_NUMBERS = "fiub"
_LISTED_AT_MOST = 6


def form_of(which: str, given: object) -> Form:
    """Return the form in which the initial or the final arrays were given.

    >>> form_of("final", [np.ones((2, 3)), np.ones(2)]), form_of("final", np.ones(8))
    ('arrays in order', 'a flat vector')
    """
    if isinstance(given, Mapping):
        return "arrays by name"
    if isinstance(given, np.ndarray):
        if given.ndim == 1 and given.dtype.kind in _NUMBERS:
            return "a flat vector"
        described = f"one array of {given.dtype} and shape {given.shape}"
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return "arrays in order"
    else:
        described = f"a {type(given).__name__}"
    raise WeightsError(
        f"{which}: expected a mapping of NumPy arrays by name, a sequence of them in the model's "
        f"order, or one flat vector of real numbers; got {described}"
    )


def by_name(which: str, given: Arrays, held: Mapping[str, Array]) -> dict[str, Array]:
    """Return the given arrays, in the order given, by the names that the model has for them.

    Args:
        which: What to call them in an error.
        given: In any form.
        held: The model's own arrays, those that the form holds.

    >>> by_name("final", np.arange(3), {"weight": np.ones((1, 2)), "bias": np.ones(1)})
    {'weight': array([[0, 1]]), 'bias': array([2])}
    """
    if isinstance(given, Mapping):
        prefix = _wrapping(given, held)
        # A name may be something else than text, for the error to say so.
        return {name[len(prefix) :] if prefix else name: each for name, each in given.items()}
    if isinstance(given, np.ndarray):
        return _cut_up(which, given, held)
    if len(given) != len(held):
        raise WeightsError(
            f"{which}: expected {len(held)} arrays in the order of the model's own "
            f"({_names(held)}); got {len(given)}"
        )
    return dict(zip(held, given, strict=True))


def fitting(which: str, given: Mapping[str, Any], held: Mapping[str, Array]) -> dict[str, Array]:
    """Return the given arrays in the model's types.

    Raises:
        WeightsError: They do not fit the model; the message names the first few misfits.
    """
    problems = []
    if missing := [name for name in held if name not in given]:
        problems.append(f"missing: {_names(missing)}")
    if additional := [name for name in given if name not in held]:
        problems.append(f"not in the model: {_names(additional)}")
    cast: dict[str, Array] = {}
    for name in (name for name in held if name in given):
        problem = _unusable(given[name], held[name])
        if problem is None:
            with np.errstate(over="ignore", invalid="ignore"):
                cast[name] = np.asarray(given[name]).astype(held[name].dtype)
            problem = _not_finite(given[name], cast[name], held[name])
        if problem is not None:
            problems.append(f"{name!r} {problem}")
    if problems:
        more = len(problems) - _LISTED_AT_MOST
        others = f"; and {more} more" if more > 0 else ""
        raise WeightsError(
            f"{which}: the arrays do not fit the model: {'; '.join(problems[:_LISTED_AT_MOST])}"
            f"{others}. Give all arrays of this architecture, by its own names or as a list in its "
            "order"
        )
    return cast


def packed(arrays: Iterable[Array], like: Arrays) -> Any:
    """Return arrays in the form of others that they correspond to one by one."""
    if isinstance(like, Mapping):
        return dict(zip(like, arrays, strict=True))
    if isinstance(like, np.ndarray):
        return np.concatenate([each.ravel() for each in arrays]).astype(like.dtype, copy=False)
    return list(arrays)


def _wrapping(given: Mapping[str, Array], held: Mapping[str, Array]) -> str:
    """Return the prefix of every name, such as the ``_orig_mod.`` of ``torch.compile``."""
    first = next(iter(held), "")
    ending = (name for name in given if isinstance(name, str) and name.endswith(first))
    for prefix in (name.removesuffix(first) for name in ending):
        if {prefix + name for name in held} == set(given):
            return prefix
    return ""


def _cut_up(which: str, vector: Array, held: Mapping[str, Array]) -> dict[str, Array]:
    size = sum(array.size for array in held.values())
    if vector.size != size:
        raise WeightsError(
            f"{which}: expected a vector of {size} numbers, the parameters of the model one after "
            f"another ({_names(held)}), without buffers; got {vector.size}"
        )
    named, start = {}, 0
    for name, array in held.items():
        named[name] = vector[start : start + array.size].reshape(array.shape)
        start += array.size
    return named


def _unusable(given: Any, held: Array) -> str | None:
    # Averaging an array without axes makes a NumPy number of it.
    if not isinstance(given, (np.ndarray, np.generic)):
        kind = type(given).__name__
        convert = "; convert it, in PyTorch with .cpu().numpy()" if hasattr(given, "numpy") else ""
        return f"is a {kind}, not a NumPy array{convert}"
    if isinstance(given, np.ma.MaskedArray):
        return "is a masked array, of which some numbers may be missing; fill them in first"
    if given.shape != held.shape:
        return f"has shape {given.shape}, the model's {held.shape}"
    if given.dtype.kind not in _NUMBERS or (given.dtype.kind != "f" and held.dtype.kind == "f"):
        return f"is {given.dtype}, the model's {held.dtype}"
    if np.isnan(given).any():
        return "holds NaN"
    return None


def _not_finite(given: Array, cast: Array, held: Array) -> str | None:
    # A mask may hold infinity; then the model's own does so too.
    if (np.isfinite(given) & np.isfinite(cast) | ~np.isfinite(held)).all():
        return None
    return f"holds infinity, or numbers out of the range of {held.dtype}"


def _names(names: Collection[object]) -> str:
    return listed([repr(name) for name in names], most=_LISTED_AT_MOST)
