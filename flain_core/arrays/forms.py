"""The forms in which stacks hand over the arrays of a model: by name, in order, or flat."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from flain_core.errors import WeightsError, listed
from flain_core.network import Array

Arrays: TypeAlias = "Mapping[str, Array] | Sequence[Array] | Array"
"""All arrays of a model: by name, in order, or one after another in a flat vector. Tensors of
PyTorch count as arrays."""

Form: TypeAlias = Literal["arrays by name", "arrays in order", "a flat vector"]

_NUMBERS = "fiub"


def form_of(which: str, given: object) -> Form:
    """Return the form in which the initial or the final arrays were given.

    >>> form_of("final", [np.ones((2, 3)), np.ones(2)]), form_of("final", np.ones(8))
    ('arrays in order', 'a flat vector')
    """
    if isinstance(given, Mapping):
        return "arrays by name"
    if is_tensor(given):
        given = as_array(which, given)
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
        cut = {name[len(prefix) :] if prefix else name: each for name, each in given.items()}
        missing = _wrapping_of_model(cut, held)
        return {missing + name if missing else name: each for name, each in cut.items()}
    if isinstance(given, np.ndarray):
        return _cut_up(which, given, held)
    if len(given) != len(held):
        raise WeightsError(
            f"{which}: expected {len(held)} arrays in the order of the model's own "
            f"({_names(held)}); got {len(given)}"
        )
    return dict(zip(_order(given, held), given, strict=True))


def fitting(
    which: str,
    given: Mapping[str, Any],
    held: Mapping[str, Array],
    *,
    may_lack: Collection[str] = (),
) -> dict[str, Array]:
    """Return the given arrays in the model's types.

    Args:
        which: What to call them in an error.
        given: By the model's names.
        held: The model's own.
        may_lack: Names that need not be given.

    Raises:
        WeightsError: They do not fit the model; the message names the first few misfits.
    """
    problems = []
    if missing := [name for name in held if name not in given and name not in may_lack]:
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
        raise WeightsError(
            f"{which}: the arrays do not fit the model: {listed(problems, '; ')}. Give all arrays "
            "of this architecture, by its own names or as a list in its order"
        )
    return cast


def dispensable(held: Mapping[str, Array], parameters: Collection[str]) -> set[str]:
    """Return the names of arrays that clients may keep to themselves, so that no server has them.

    Those are a model's buffers, such as the statistics and counters of batch normalization, which
    ``parameters()`` leaves out; and all arrays of a layer that normalizes, known by its having
    several arrays and each of at most one axis, which FedBN leaves out (Li et al., FedBN: Federated
    Learning on Non-IID Features via Local Batch Normalization, ICLR 2021).

    Args:
        held: All arrays of the model.
        parameters: Names of those that are no buffers.

    >>> held = {"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2), "bn.weight": np.ones(2),
    ...         "bn.bias": np.ones(2), "bn.running_mean": np.ones(2)}
    >>> sorted(dispensable(held, ["fc.weight", "fc.bias", "bn.weight", "bn.bias"]))
    ['bn.bias', 'bn.running_mean', 'bn.weight']
    """
    layers: dict[str, list[str]] = {}
    for name in held:
        layers.setdefault(re.sub(r"[./]?[^./]*$", "", name), []).append(name)
    normalizing = (
        names
        for names in layers.values()
        if len(names) > 1 and all(held[name].ndim <= 1 for name in names)
    )
    buffers = set(held) - set(parameters)
    return buffers.union(*normalizing)


def is_tensor(given: object) -> bool:
    """Return whether something is a tensor of PyTorch, without importing that."""
    return callable(getattr(given, "new_tensor", None)) and hasattr(given, "detach")


def as_array(which: str, given: Any) -> Any:
    """Return the array in a tensor; anything else as it is.

    Raises:
        WeightsError: NumPy has no type for the tensor.
    """
    if not is_tensor(given):
        return given
    try:
        return given.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{which}: NumPy cannot hold a tensor of {given.dtype} on {given.device} ({error}); "
            "give it as .float(), in memory"
        ) from error


def packed(arrays: Iterable[Array], like: Arrays) -> Any:
    """Return arrays in the form of others that they correspond to one by one."""
    if isinstance(like, Mapping):
        return dict(zip(like, arrays, strict=True))
    if isinstance(like, np.ndarray):
        return np.concatenate([each.ravel() for each in arrays]).astype(like.dtype, copy=False)
    return list(arrays)


def _wrapping(given: Mapping[str, Array], held: Mapping[str, Array]) -> str:
    """Return the prefix of every name, such as the ``_module.`` that wrappers put there.

    Not every array that is held has to be given.
    """
    first = next(iter(given), "")
    if not isinstance(first, str) or first in held:
        return ""
    # The longest ending that is a name of the model's leaves the shortest prefix.
    fits = [first.removesuffix(name) for name in held if first.endswith(name)]
    for prefix in sorted(fits, key=len):
        if all(
            isinstance(name, str) and name.startswith(prefix) and name[len(prefix) :] in held
            for name in given
        ):
            return prefix
    return ""


def _wrapping_of_model(given: Mapping[str, Array], held: Mapping[str, Array]) -> str:
    """Return the prefix that the model's names have and those that are given lack."""
    first = next(iter(given), "")
    if not isinstance(first, str) or first in held:
        return ""
    fits = [name.removesuffix(first) for name in held if name.endswith(first)]
    for prefix in sorted(fits, key=len):
        wraps_all = all(name.startswith(prefix) for name in held)
        if wraps_all and all(isinstance(name, str) and prefix + name in held for name in given):
            return prefix
    return ""


def _order(given: Sequence[Any], held: Mapping[str, Array]) -> list[str]:
    """Return the names in the model's own order, or by the numbers at their ends if that fits.

    scikit-learn keeps all ``coefs_`` and then all ``intercepts_``, and many hand them over layer by
    layer.
    """

    def fit(names: Sequence[str]) -> bool:
        shapes = [getattr(each, "shape", None) for each in given]
        return shapes == [held[name].shape for name in names]

    own = list(held)
    ends = [re.search(r"\d+$", name) for name in own]
    if fit(own) or not all(ends):
        return own
    by_layer = sorted(own, key=lambda name: int((re.search(r"\d+$", name) or [0])[0]))
    return by_layer if fit(by_layer) else own


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
        if hasattr(given, "numpy"):
            return f"is a {kind}, not a NumPy array; convert it, in PyTorch with .cpu().numpy()"
        return f"is a {kind}, not a NumPy array; encrypted or nested ones cannot be purified"
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
    return listed([repr(name) for name in names])
