"""Clean samples that trusted nodes keep to themselves: the server asks for sums and counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

import flain_core as flain
from flain_core.federated.holder import answered
from flain_core.federated.trusted import Reply, Trusted
from flain_core.network import Array
from flain_core.sample_source import SampleFacts
from flain_core.score import Score

from .purify import to_arrays, to_record

_RECORD = "flain"
_QUERY = f"{MessageType.QUERY}.flain"  # the client app answers it in @app.query("flain")


@dataclass(frozen=True)
class TrustedNodes(Trusted[int]):
    """Clean samples that lie at trusted nodes, as the ``data`` of a purification.

    The nodes' client app answers with :func:`answer`.
    :class:`~flain_core.federated.trusted.Trusted` says what is asked and what becomes of a node
    that does not answer, and explains ``merging``, ``trim``, ``least``, ``timeout`` and
    ``lookahead``.

    Attributes:
        grid: The grid that the server app is given.
        node_ids: Ids of the nodes to ask, or ``"all"`` for every node that is connected then. Ask
            only nodes that you trust: whoever answers has a say in which neurons are flipped.
        classify: False where the nodes answer with another ``score`` than accuracy.

    Raises:
        SettingsError: A value is out of range or of the wrong type.
    """

    kind = "node"
    argument = "node_ids"
    id_type = int

    grid: Grid
    node_ids: Sequence[int] | Literal["all"]
    classify: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise flain.SettingsError(
                f"expected the grid that the server app is given; got {self.grid!r}"
            )
        super().__post_init__()

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples."""
        return SampleFacts(classify=self.classify)

    def connected(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return self.grid.get_node_ids()

    def send(self, arrays: Mapping[str, Array], holders: Sequence[int]) -> Mapping[int, Reply]:
        """Send a question to some nodes as a query message each."""
        record = to_record(arrays, arrays)
        messages = [
            Message(RecordDict({_RECORD: record}), dst_node_id=node, message_type=_QUERY)
            for node in holders
        ]
        replies = self.grid.send_and_receive(messages, timeout=self.timeout)
        return {reply.metadata.src_node_id: partial(_arrays, reply) for reply in replies}


def answer(
    message: Message,
    *,
    model: Any,
    data: Any,
    score: Score = flain.accuracy,
    batch_size: int | None = None,
) -> Message:
    """Answer a question of :class:`TrustedNodes`, in the client app's function for ``query.flain``.

    Args:
        message: The question as it came.
        model: The architecture of the global model, its layers named as on the server. Its
            weights do not matter, and it is never changed.
        data: The clean samples of this node, in any form that :func:`flain_core.purify` takes.
        score: Worth of a sample; the server then says ``classify=False``.
        batch_size: Samples per pass; None lets the size of a sample decide.

    Returns:
        The reply: sums and counts over all the samples.

    Raises:
        FlainError: The question does not fit the model or the samples. Flower tells the server.

    Example:
        >>> import numpy as np
        >>> from flwr.clientapp import ClientApp
        >>> from flain_flower import answer
        >>> from flain_numpy import Dense, Network
        >>> app = ClientApp()
        >>> @app.query("flain")
        ... def query(message, context):
        ...     model = Network([Dense("scores", np.zeros((2, 3)))])
        ...     return answer(message, model=model, data=(np.eye(2, 3), [0, 1]))
    """
    arrays = answered(_arrays(message), model, data, score=score, batch_size=batch_size)
    return Message(RecordDict({_RECORD: to_record(arrays, arrays)}), reply_to=message)


def _arrays(message: Message) -> dict[str, Array]:
    if message.has_error():
        raise flain.DataError(f"it failed: {message.error.reason or ''}")
    record = message.content.get(_RECORD)
    if not isinstance(record, ArrayRecord):
        raise flain.DataError(
            f"expected a message with an array record {_RECORD!r}; got {sorted(message.content)}"
        )
    return to_arrays(record, _RECORD)
