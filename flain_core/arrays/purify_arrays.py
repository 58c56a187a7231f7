"""Purifies plain arrays, for stacks that hand over weights and keep the model to themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flain_core.errors import WeightsError, listed
from flain_core.main_call import purify
from flain_core.network import Array, Network
from flain_core.opening import registry
from flain_core.options import PurifyOptions, check_names
from flain_core.purification import Purification
from flain_core.storage.files import hashes

from .forms import (
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

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
    initial: Arrays | None,
    final: Arrays,
    model: Any,
    *,
    data: Any,
    **options: Unpack[PurifyOptions],
) -> PurifiedArrays:
    """Remove a backdoor from a trained model whose weights are plain arrays.

    Args:
        initial: The arrays that training started from, in the same form as ``final``. None stands
            for a model of PyTorch with its LoRA adapter off.
        final: The trained arrays, in one of three forms. A mapping by the names of PyTorch's
            ``state_dict()``, the paths of Keras's ``weights``, or those that the ``arrays_of`` of
            the model's backend gives; in any order, and all with one prefix if need be, such as
            ``"module."``. A sequence in the order of ``state_dict().values()`` or
            ``get_weights()``, or of ``parameters()`` alone. Or a flat vector ``(n,)`` of all
            ``parameters()`` of a PyTorch module, or ``trainable_weights`` of a Keras model. What
            is lacking of batch normalization, all of it or its statistics, is taken from ``model``,
            and a note says so. Types that averaging changed are read as the model's; tensors of
            PyTorch are arrays as well, and come back as tensors. If the model has a LoRA adapter,
            the arrays may be those of the adapter alone, by the names of its file or of the state
            dict, or in their order.
        model: The architecture: a model, or the path of one. It is never changed. Its own weights
            do not matter where arrays are given for them; beside an adapter that is given alone,
            they are used as they are.
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
        array([[  0.7,   0.4,  18. ],
               [  0.3,   0.6, -18. ]])
    """
    check_names(options, "purify_arrays")
    forms = form_of("initial", final if initial is None else initial), form_of("final", final)
    if forms[0] != forms[1]:
        raise WeightsError(
            f"expected initial and final in the same form; got {forms[0]} and {forms[1]}"
        )
    architecture = registry.architecture(model)
    held = _Held.of(architecture, final, forms[1])
    start = None if initial is None else held.opened("initial", initial)[0]
    end, ended = held.opened("final", final)
    before = registry.arrays_of(end.native)
    purification = purify(end, initial=start, data=data, **options)
    after = registry.arrays_of(purification.model)
    own = held.names
    arrays = [
        _changed(name, each, before[own.get(name, name)], after[own.get(name, name)])
        for name, each in ended.items()
    ]
    filled = [name for name in held.may_lack if name not in ended and held.all[name].ndim]
    return PurifiedArrays(
        arrays=_like(packed(arrays, _plain("final", final)), final),
        purification=replace(
            purification,
            files=hashes([model]) | dict(purification.files),
            notes=(*purification.notes, *_on_filled(filled)),
        ),
    )


def opened(arrays: Arrays, model: Any, *, which: str) -> Network:
    """Open a model with arrays in place of its own, as :func:`purify_arrays` does.

    Args:
        arrays: In one of the forms there.
        model: The architecture.
        which: What the arrays are called in messages.

    Raises:
        WeightsError: They do not fit.
        ModelError: The model cannot be opened, or its backend does not take arrays.

    >>> from flain_numpy import Dense, Network
    >>> network = Network([Dense("scores", np.zeros((2, 3)))])
    >>> opened([np.ones((2, 3))], network, which="initial").layers()["scores"].weight[0]
    array([1., 1., 1.])
    """
    architecture = registry.architecture(model)
    return _Held.of(architecture, arrays, form_of(which, arrays)).opened(which, arrays)[0]


@dataclass(frozen=True, eq=False)
class _Held:
    """The arrays of an architecture that were given, all or some of them.

    Attributes:
        architecture: The model.
        all: Every array of it, by name.
        in_order: Those that arrays in order, or a vector, stand for.
        expected: Those that are expected, by the names that are expected.
        may_lack: Names of those among them that need not be given.
        names: Their names among all, where these are others.
    """

    architecture: Any
    all: Mapping[str, Array]
    in_order: Mapping[str, Array]
    expected: Mapping[str, Array]
    may_lack: Collection[str]
    names: Mapping[str, str]

    @classmethod
    def of(cls, architecture: Any, final: Arrays, form: Form) -> _Held:
        """Find out which arrays were given: all, ``parameters()``, or an adapter's alone."""
        own = registry.arrays_of(architecture)
        names = registry.adapter_names(architecture)
        adapter = {name: own[whole] for name, whole in names.items()}
        flat = form == "a flat vector"
        if adapter and len(final) == (sum(map(np.size, adapter.values())) if flat else len(names)):
            if isinstance(final, Mapping) and not names.keys() & final.keys():
                adapter, names = {whole: own[whole] for whole in names.values()}, {}
            return cls(architecture, own, adapter, adapter, (), names)
        parameters = registry.arrays_of(architecture, buffers=False)
        short = flat or (form == "arrays in order" and len(final) == len(parameters))
        lacking = [name for name in own if name in dispensable(own, parameters)]
        return cls(architecture, own, parameters if short else own, own, lacking, {})

    def opened(self, which: str, given: Arrays) -> tuple[Network, dict[str, Array]]:
        """Open the model with arrays, and return these by name."""
        named = by_name(which, _plain(which, given), self.in_order)
        fitted = fitting(which, named, self.expected, may_lack=self.may_lack)
        state = {**self.all, **{self.names.get(name, name): fitted[name] for name in fitted}}
        return registry.open_network(state, like=self.architecture), named


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
            f"{listed([repr(name) for name in names])}; the clean samples "
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
