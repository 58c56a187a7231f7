"""Clean samples that trusted nodes keep to themselves: the server asks for sums and counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid

import flain_core as flain
from flain_core.federated.holder import answered
from flain_core.federated.trusted import MissedError, Reply, Trusted
from flain_core.network import Array
from flain_core.sample_source import SampleFacts
from flain_core.score import Score

from .purify import to_arrays, to_record

_RECORD = "flain"
_QUERY = f"{MessageType.QUERY}.flain"  # the client app answers it in @app.query("flain")

# Codes of Flower's errors after which the same question may be answered.
_MISSED = {
    3: "the question got lost",
    4: "its answer got lost",
    5: "it is not connected any more",
    8: "its process crashed",
}


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

    def send(
        self, letters: Mapping[int, Mapping[str, Array]], timeout: float
    ) -> Mapping[int, Reply]:
        """Send each letter as a query message."""
        # Nodes that get the same letter share its record, which is large.
        records = {id(letter): to_record(letter, letter) for letter in letters.values()}
        messages = [
            Message(
                RecordDict({_RECORD: records[id(letter)]}), dst_node_id=node, message_type=_QUERY
            )
            for node, letter in letters.items()
        ]
        replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        asked = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        by_node: dict[int, Reply] = {}
        for reply in replies:
            # What tells of a node that is gone comes from the SuperLink, not from that node.
            node = asked.get(reply.metadata.reply_to_message_id)
            if node is not None:
                by_node[node] = partial(_arrays, reply)
        return by_node


def answer(
    message: Message,
    context: Context | None = None,
    *,
    model: Any,
    data: Any,
    score: Score = flain.accuracy,
    batch_size: int | None = None,
) -> Message:
    """Answer a question of :class:`TrustedNodes`, in the client app's function for ``query.flain``.

    Args:
        message: The question as it came.
        context: That of the function. Its state then keeps the model from one question to the
            next, so that the model travels once; None has each question bring it.
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
        ...     return answer(message, context, model=model, data=(np.eye(2, 3), [0, 1]))
    """
    arrays = answered(
        _arrays(message),
        model,
        data,
        score=score,
        batch_size=batch_size,
        memory=None if context is None else _InState(context.state),
    )
    return Message(RecordDict({_RECORD: to_record(arrays, arrays)}), reply_to=message)


def _arrays(message: Message) -> dict[str, Array]:
    if message.has_error():
        error = message.error
        if error.code in _MISSED:
            raise MissedError(f"{_MISSED[error.code]} ({error.reason or 'Flower gives no reason'})")
        raise flain.DataError(f"it failed: {error.reason or ''}")
    record = message.content.get(_RECORD)
    if not isinstance(record, ArrayRecord):
        raise flain.DataError(
            f"expected a message with an array record {_RECORD!r}; got {sorted(message.content)}"
        )
    return to_arrays(record, _RECORD)


class _InState(MutableMapping[str, Array]):
    """Arrays in the state of a context, which Flower keeps for a node as long as the run lasts."""

    def __init__(self, state: RecordDict) -> None:
        if not isinstance(state.get(_RECORD), ArrayRecord):
            state[_RECORD] = ArrayRecord()
        self._record = state.array_records[_RECORD]

    def __getitem__(self, name: str) -> Array:
        return self._record[name].numpy()

    def __setitem__(self, name: str, array: Array) -> None:
        self._record[name] = FlowerArray(np.asarray(array))

    def __delitem__(self, name: str) -> None:
        del self._record[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def __len__(self) -> int:
        return len(self._record)
