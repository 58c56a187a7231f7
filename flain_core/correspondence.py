"""Questions that carry the trained model with them, for holders that keep nothing in between.

A client of a federation forgets between two messages, and has the architecture, but not the trained
weights. So each question takes these along, as further arrays by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from . import registry
from .array_forms import by_name, fitting
from .errors import DataError
from .examination import Examination
from .holder import Holder
from .network import Array, Network
from .question import Question
from .score import Score, accuracy
from .wire import read_question, write_answer, write_question

__all__ = ["Inquiry", "answered"]

_TRAINED = "trained "


class Inquiry:
    """Writes questions about one trained model.

    Args:
        network: The trained model.

    Raises:
        ModelError: Its backend does not hand out arrays.
    """

    def __init__(self, network: Network) -> None:
        trained = registry.arrays_of(network.native).values()
        # In order, as Keras puts a number of the process's own into the names of weights.
        self._trained = {f"{_TRAINED}{index}": array for index, array in enumerate(trained)}

    def write(self, question: Question) -> dict[str, Array]:
        """The question with the trained model, as arrays by name."""
        return write_question(question) | self._trained


def answered(
    arrays: Mapping[str, Array],
    model: Any,
    data: Any,
    *,
    score: Score = accuracy,
    batch_size: int | None = None,
) -> dict[str, Array]:
    """Answer what :meth:`Inquiry.write` wrote, where samples lie.

    Args:
        arrays: The question. Its arrays are read as numbers; nothing is unpickled.
        model: The architecture, with layers of the names that the asking side knows. Its weights
            do not matter, and it is never changed.
        data: The samples, in any form that ``flain.purify(data=...)`` takes.
        score: What a sample is worth.
        batch_size: Samples per pass; None lets the size of a sample decide.

    Returns:
        The answer: sums and counts over all the samples, as arrays by name.

    Raises:
        FlainError: The question cannot be read, or does not fit the model or the samples.

    Example:
        >>> import numpy as np
        >>> from flain_core.question import Setting
        >>> from flain_core.wire import read_answer
        >>> from flain_numpy import Dense, Network
        >>> trained = Network([Dense("scores", np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]))])
        >>> arrays = Inquiry(trained).write(Question("in full", Setting()))
        >>> untrained = Network([Dense("scores", np.zeros((2, 3)))])
        >>> read_answer(answered(arrays, untrained, (np.eye(2, 3), [0, 1]))).scored[0].clean
        Tally(total=2, count=2, uncertain=0.0)
    """
    question = read_question(arrays)
    trained = list(_trained(arrays))
    if not trained:
        raise DataError("expected the arrays of the trained model with the question; got none")
    architecture = registry.architecture(model)
    held = registry.arrays_of(architecture)
    named = by_name("the trained model", trained, held)
    network = registry.open_network(
        held | fitting("the trained model", named, held), like=architecture
    )
    holder = Holder(network, Examination.on(data, score=score, batch_size=batch_size))
    return write_answer(holder.answer(question))


def _trained(arrays: Mapping[str, Array]) -> Iterator[Array]:
    for index in count():
        if f"{_TRAINED}{index}" not in arrays:
            return
        yield arrays[f"{_TRAINED}{index}"]
