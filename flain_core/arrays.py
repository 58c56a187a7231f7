"""Purifies plain arrays, for stacks that hand over weights and keep the model to themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import registry
from .array_forms import (
    Arrays,
    Form,
    as_array,
    by_name,
    dispensable,
    fitting,
    form_of,
    is_tensor,
    packed,
)
from .errors import WeightsError, listed
from .network import Array
from .options import PurifyOptions, check_names
from .outcome import Purification
from .purify import purify

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LISTED_AT_MOST = 6


@dataclass(frozen=True, eq=False)
class PurifiedArrays:
    """Purified arrays, and what was done to them.

    Attributes:
        arrays: A dict, a list or a flat vector, like the final arrays, with their names, order,
            shapes and types. Arrays that were not purified have the values that were given.
        purification: What was done; its ``model`` is the architecture with the purified weights.

    Example:
        >>> from flain_numpy import Dense, Network
        >>> network = Network([Dense("scores", np.zeros((2, 3)))])
        >>> initial = [np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])]
        >>> final = [np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]])]
        >>> data = np.tile([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0]], (50, 1)), np.tile([0, 1], 50)
        >>> result = purify_arrays(initial, final, network, data=data)
        >>> len(result.arrays), result.purification.verdict
        (1, 'flipped')
    """

    arrays: Any
    purification: Purification

    def __repr__(self) -> str:
        return f"PurifiedArrays({form_of('arrays', self.arrays)}, {self.purification!r})"


def purify_arrays(
    initial: Arrays,
    final: Arrays,
    model: Any,
    *,
    data: Any,
    **options: Unpack[PurifyOptions],
) -> PurifiedArrays:
    """Remove a backdoor from a trained model whose weights are plain arrays.

    Args:
        initial: The arrays that training started from, in the same form as ``final``.
        final: The trained arrays, in one of three forms. A mapping by the names of PyTorch's
            ``state_dict()``, the paths of Keras's ``weights``, or those that the ``arrays_of`` of
            the model's backend gives; in any order, and all with one prefix if need be, such as
            ``"module."``. A sequence in the order of ``state_dict().values()`` or
            ``get_weights()``, or of ``parameters()`` alone. Or a flat vector ``(n,)`` of all
            ``parameters()`` of a PyTorch module, or ``trainable_weights`` of a Keras model. What
            is lacking of batch normalization, all of it or its statistics, is taken from ``model``,
            and a note says so. Types that averaging changed are read as the model's; tensors of
            PyTorch are arrays as well, and come back as tensors.
        model: The architecture: a model, or the path of one. Weights of it that are given do not
            matter, and it is never changed.
        data: The clean samples, as :func:`purify` takes them.
        options: Every option of :func:`purify`, such as ``layers``, ``settings`` or ``probes``.

    Returns:
        The arrays in the form of ``final``, and what was done.

    Raises:
        WeightsError: An array is missing, additional, of another shape, or not finite; or the two
            do not belong together.
        ModelError: The model cannot be opened, or its backend does not take arrays.
        FlainError: As :func:`purify` does.

    Example:
        >>> from flain_numpy import Dense, Network
        >>> network = Network([Dense("scores", np.zeros((2, 3)))])
        >>> initial = {"scores.weight": np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])}
        >>> final = {"scores.weight": np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]])}
        >>> x = np.array([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0], [0.8, 0.1, 0.0], [0.2, 0.6, 0.0]])
        >>> data = np.tile(x, (25, 1)), np.tile([0, 1, 0, 1], 25)
        >>> purified = purify_arrays(initial, final, network, data=data).arrays
        >>> purified["scores.weight"].round(1)
        array([[  0.9,   0. ,  18. ],
               [  0. ,   0.9, -18. ]])
    """
    from .storage.files import hashes  # late, so that `import flain_core` stays light

    check_names(options, "purify_arrays")
    forms = form_of("initial", initial), form_of("final", final)
    if forms[0] != forms[1]:
        raise WeightsError(
            f"expected initial and final in the same form; got {forms[0]} and {forms[1]}"
        )
    architecture = registry.architecture(model)
    own = registry.arrays_of(architecture)
    parameters = registry.arrays_of(architecture, buffers=False)
    lacking = dispensable(own, parameters)
    started, ended = (
        by_name(which, _plain(which, given), _those_in(given, forms[1], own, parameters))
        for which, given in (("initial", initial), ("final", final))
    )
    start = own | fitting("initial", started, own, may_lack=lacking)
    end = registry.open_network(
        own | fitting("final", ended, own, may_lack=lacking), like=architecture
    )
    before = registry.arrays_of(end.native)
    purification = purify(
        end, initial=registry.open_network(start, like=architecture), data=data, **options
    )
    after = registry.arrays_of(purification.model)
    arrays = [_changed(name, ended[name], before[name], after[name]) for name in ended]
    filled = [name for name in own if name not in ended and own[name].ndim]
    return PurifiedArrays(
        arrays=_like(packed(arrays, _plain("final", final)), final),
        purification=replace(
            purification,
            files=hashes([model]) | dict(purification.files),
            notes=(*purification.notes, *_on_filled(filled)),
        ),
    )


def _those_in(
    given: Arrays, form: Form, own: Mapping[str, Array], parameters: Mapping[str, Array]
) -> Mapping[str, Array]:
    """Return the model's arrays that a form holds: a list may be of ``parameters()`` alone."""
    flat = form == "a flat vector"
    short = form == "arrays in order" and len(given) == len(parameters)
    return parameters if flat or short else own


def _plain(which: str, given: Arrays) -> Any:
    """Return arrays in place of PyTorch's tensors."""
    if isinstance(given, Mapping):
        return {name: as_array(f"{which}: {name!r}", each) for name, each in given.items()}
    if isinstance(given, np.ndarray) or is_tensor(given):
        return as_array(which, given)
    return [as_array(which, each) for each in given]


def _like(arrays: Any, given: Any) -> Any:
    """Return tensors, on the device of those that were given, where tensors were given."""
    if is_tensor(given):
        return given.new_tensor(arrays)
    if isinstance(given, Mapping):
        return {name: _like(array, given[name]) for name, array in arrays.items()}
    if isinstance(given, Sequence):
        return [_like(array, each) for array, each in zip(arrays, given, strict=True)]
    return arrays


def _on_filled(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield (
            f"{len(names)} arrays were not given and are the model's own, as it was passed: "
            f"{listed([repr(name) for name in names], most=_LISTED_AT_MOST)}; the clean samples "
            "were scored with them, so they should be those of a client or of a model in use"
        )


def _changed(name: str, given: Array, before: Array, after: Array) -> Array:
    """Return the given array with the numbers that purification changed, in the given type."""
    given = np.asarray(given)
    try:
        with np.errstate(over="raise"):
            purified = after.astype(given.dtype)
    except FloatingPointError as error:
        raise WeightsError(
            f"the purified {name!r} is out of the range of {given.dtype}, the type in which it "
            "was given; give wider arrays"
        ) from error
    np.copyto(purified, given, where=after == before)
    return purified
