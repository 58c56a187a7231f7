"""Purifies the arrays of two records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord

import flain_core as flain

from .records import as_given, to_arrays, to_record

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flain_core.options import PurifyOptions


def purify(
    initial_arrays: ArrayRecord,
    final_arrays: ArrayRecord,
    *,
    model: Any,
    data: Any,
    **options: Unpack[PurifyOptions],
) -> flain.PurifiedArrays:
    """Remove a backdoor from the arrays that a Flower strategy returned.

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
        >>> purified.arrays["scores.weight"].numpy()
        array([[ 1.,  0.,  9.],
               [ 0.,  1., -9.]])
    """
    check_options(options)
    purified = flain.purify_arrays(
        as_given(to_arrays(initial_arrays, "initial_arrays")),
        as_given(to_arrays(final_arrays, "final_arrays")),
        model,
        data=data,
        **options,
    )
    return replace(purified, arrays=to_record(purified.arrays, like=final_arrays))


def check_options(options: Mapping[str, object]) -> None:
    """Raise :class:`TypeError` for what :func:`flain_core.purify` has no option for."""
    signature(flain.purify).bind(None, initial=None, data=None, **options)
