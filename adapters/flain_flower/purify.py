"""The plain call: two records in, the purified one out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord

import flain_core as flain
from flain_core.progress import OnProgress
from flain_core.score import Score

from .records import to_arrays, to_record

__all__ = ["purify"]


def purify(
    initial_arrays: ArrayRecord,
    final_arrays: ArrayRecord,
    *,
    model: Any,
    data: Any,
    layers: str | Sequence[str] = "auto",
    settings: flain.Settings | None = None,
    probes: Mapping[str, Any] | None = None,
    score: Score = flain.accuracy,
    progress: bool | OnProgress = False,
    batch_size: int | None = None,
    memory_limit: int = 2 * 2**30,
    seed: int = 0,
) -> flain.PurifiedArrays:
    """Remove a backdoor from the arrays that a Flower strategy returned.

    Args:
        initial_arrays: What training started from.
        final_arrays: What it ended with, ``result.arrays``. The two are matched by key.
        model: The architecture: a PyTorch module, a Keras model, or any other that
            :func:`flain_core.purify_arrays` takes. Its own weights do not matter and do not change.
        data: A few hundred clean samples with labels; this and all further options as in
            :func:`flain_core.purify`.
        layers: Which layers to purify.
        settings: How the search decides.
        probes: Further samples to measure, by name.
        score: What a sample is worth.
        progress: Whether, or to whom, to show progress.
        batch_size: Samples per pass.
        memory_limit: Bytes that may be spent on keeping batches at the layer.
        seed: Of the proof of the cut.

    Returns:
        ``arrays``, a record with the keys, order, shapes and types of ``final_arrays``; and
        ``purification``, what was done.

    Raises:
        FlainError: One of its children says which input cannot be used, and why. Nothing given is
            changed.

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
    purified = flain.purify_arrays(
        to_arrays(initial_arrays, "initial_arrays"),
        to_arrays(final_arrays, "final_arrays"),
        model,
        data=data,
        layers=layers,
        settings=settings,
        probes=probes,
        score=score,
        progress=progress,
        batch_size=batch_size,
        memory_limit=memory_limit,
        seed=seed,
    )
    return replace(purified, arrays=to_record(purified.arrays, like=final_arrays))
