"""Purifies the arrays of two records, and rehearses that before training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord

import flain_core as flain
from flain_core.arrays.forms import as_array
from flain_core.arrays.purify_arrays import opened
from flain_core.layer_choice import chosen_layers
from flain_core.network import Array
from flain_core.options import check_names
from flain_core.sample_source import SampleFacts
from flain_core.settings import whole_number
from flain_core.storage.npz import check_declared

from .telling import log_purification, warnings_logged

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flain_core.options import PurifyOptions

_NUDGE = 2.0**-7
_ONE_THRESHOLD = flain.Grid(start=0.0, step=1.0, stop=0.0)


def purify(
    initial_arrays: ArrayRecord,
    final_arrays: ArrayRecord,
    *,
    model: Any,
    data: Any,
    **options: Unpack[PurifyOptions],
) -> flain.PurifiedArrays:
    """Remove a backdoor from the arrays that a Flower strategy returned.

    What was done, and every note, also goes to Flower's logger.

    Args:
        initial_arrays: The arrays that training started from.
        final_arrays: The trained arrays, ``result.arrays``. The two are matched by key.
        model: The architecture: a PyTorch module, a Keras model, or any other that
            :func:`flain_core.purify_arrays` takes. Its own weights do not matter and do not change.
        data: A few hundred clean samples with labels, as :func:`flain_core.purify` takes them; or
            :class:`~flain_flower.TrustedNodes`, who have such samples.
        options: Every option of :func:`flain_core.purify`, such as ``layers``, ``settings`` or
            ``probes``.

    Returns:
        ``arrays``, a record with the keys, order, shapes and types of ``final_arrays``; and
        ``purification``, what was done.

    Raises:
        FlainError: One of its children says which input cannot be used, and why. Nothing given is
            changed.
        TypeError: There is no such option.

    Example:
        >>> import numpy as np
        >>> from flwr.app import Array
        >>> from flain_numpy import Dense, Network
        >>> network = Network([Dense("scores", np.zeros((2, 3)))])
        >>> first = np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])
        >>> last = np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]])
        >>> x = np.array([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0], [0.8, 0.1, 0.0], [0.2, 0.6, 0.0]])
        >>> purified = purify(
        ...     ArrayRecord({"scores.weight": Array(first)}),
        ...     ArrayRecord({"scores.weight": Array(last)}),
        ...     model=network,
        ...     data=(np.tile(x, (25, 1)), np.tile([0, 1, 0, 1], 25)),
        ... )
        >>> purified.arrays["scores.weight"].numpy().round(1)
        array([[  0.7,   0.4,  18. ],
               [  0.3,   0.6, -18. ]])
    """
    check_names(options, "purify")
    with warnings_logged(instead=False) as told:
        purified = purified_records(initial_arrays, final_arrays, model=model, data=data, **options)
    log_purification(purified.purification, told)
    return purified


def purified_records(
    initial_arrays: ArrayRecord,
    final_arrays: ArrayRecord,
    *,
    model: Any,
    data: Any,
    **options: Unpack[PurifyOptions],
) -> flain.PurifiedArrays:
    """Purify as :func:`purify` does, and tell Flower nothing."""
    purified = flain.purify_arrays(
        _as_given(to_arrays(initial_arrays, "initial_arrays")),
        _as_given(to_arrays(final_arrays, "final_arrays")),
        model,
        data=data,
        **options,
    )
    return replace(purified, arrays=to_record(purified.arrays, final_arrays))


def rehearse(
    purify: Callable[..., Any], initial_arrays: ArrayRecord, settings: flain.Settings
) -> None:
    """Purify the initial model, slightly changed, at a single threshold.

    Costs a few passes over the data and answers every question but one, how well the trained model
    will do: whether the arrays fit the model, the layers exist, the data can be scored. Raises what
    the real call would.
    """
    arrays = to_arrays(initial_arrays, "initial_arrays")
    changed = {name: _nudged(array) for name, array in arrays.items()}
    with warnings.catch_warnings():
        # They would speak of a model that nobody trained.
        warnings.simplefilter("ignore", flain.FlainWarning)
        purify(
            initial_arrays,
            to_record(changed, initial_arrays),
            settings=replace(settings, thresholds=_ONE_THRESHOLD),
            progress=False,
        )


def check_without_samples(
    initial_arrays: ArrayRecord,
    *,
    facts: SampleFacts,
    settings: flain.Settings,
    model: Any,
    layers: str | Sequence[str] = "auto",
    seed: int = 0,
    **_: Any,
) -> None:
    """Raise what the real call would, as far as that shows without samples."""
    whole_number(seed, "seed", least=0)
    settings.resolved(classify=facts.classify, local=facts.local)
    arrays = _as_given(to_arrays(initial_arrays, "initial_arrays"))
    chosen_layers(opened(arrays, model, which="initial"), layers)


def to_arrays(record: ArrayRecord, which: str) -> dict[str, Array]:
    """Read the arrays of a record by key; ``which`` is its name in error messages."""
    if not isinstance(record, ArrayRecord):
        raise flain.WeightsError(
            f"expected {which} to be a flwr.app.ArrayRecord; got a {type(record).__name__}"
        )
    return {name: _to_numpy(array, f"{which}[{name!r}]") for name, array in record.items()}


def _to_numpy(array: FlowerArray, name: str) -> Array:
    try:
        check_declared(BytesIO(array.data), len(array.data), name)
        plain: Array = array.numpy()
    except Exception as error:
        # Damaged bytes make NumPy raise nearly anything, even MemoryError.
        raise flain.WeightsError(
            f"{name} cannot be read: expected a NumPy array as flwr.app.Array serializes it; "
            f"got {array.stype!r} ({error})"
        ) from error
    return plain


def recorded(arrays: Any) -> ArrayRecord:
    """Return a record; of arrays by name, or in order, as some strategies return them, a new one.

    Raises:
        WeightsError: They are neither.
    """
    if isinstance(arrays, ArrayRecord):
        return arrays
    if isinstance(arrays, (list, tuple)):
        arrays = {str(index): each for index, each in enumerate(arrays)}
    if not isinstance(arrays, Mapping):
        raise flain.WeightsError(
            f"expected the strategy to return a flwr.app.ArrayRecord; got a {type(arrays).__name__}"
        )
    plain = {str(name): as_array(f"arrays[{name!r}]", each) for name, each in arrays.items()}
    return to_record(plain, plain)


def to_record(arrays: Mapping[str, Array] | list[Array], keys: Iterable[str]) -> ArrayRecord:
    """Pack arrays into a record with these keys, in this order."""
    if isinstance(arrays, list):
        arrays = {str(index): each for index, each in enumerate(arrays)}
    return ArrayRecord({key: FlowerArray(np.asarray(arrays[key])) for key in keys})


def _as_given(arrays: dict[str, Array]) -> dict[str, Array] | list[Array]:
    """Return the arrays by name, or a list if Flower was given one.

    Flower keeps a list, as Keras's ``get_weights()`` gives it, under the keys ``"0"``, ``"1"`` and
    so on, in whatever order.

    >>> _as_given({"1": np.ones(1), "0": np.zeros(2)})
    [array([0., 0.]), array([1.])]
    """
    numbers = [str(index) for index in range(len(arrays))]
    if arrays and arrays.keys() == set(numbers):
        return [arrays[each] for each in numbers]
    return arrays


def _nudged(array: Array) -> Array:
    """Return the array with each number a little larger, as far from overflow as before."""
    if array.dtype.kind != "f":
        return array
    nudged: Array = np.where(array == 0, _NUDGE**2, array * (1 + _NUDGE)).astype(array.dtype)
    return nudged
