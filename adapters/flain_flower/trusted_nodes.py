"""Clean samples that trusted nodes keep to themselves: the server asks for sums and counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

import flain_core as flain
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import answered
from flain_core.federated.merging import Merging, Rule
from flain_core.federated.messages import Answer, Question
from flain_core.federated.wire import read_answer, write_question, write_trained
from flain_core.network import Array, Network
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.score import Score
from flain_core.settings import whole_number

from .records import to_arrays

__all__ = ["ACTION", "TrustedNodes", "answer"]

ACTION = "flain"
"""What the query function of the client app is registered under: ``@app.query("flain")``."""

_RECORD = "flain"


@dataclass(frozen=True)
class TrustedNodes:
    """Clean samples that lie at trusted nodes, as the ``data`` of a purification.

    The nodes' client app answers with :func:`answer`. Each question carries the trained model; an
    answer holds sums over all samples of the node, never a sample. A node that fails, does not
    answer in time, or answers what cannot be true, is left out with a warning, and the search
    starts again with the others.

    ``docs/federated-auxiliary-data.md`` says what a node that lies can do, and what the answers
    give away.

    Attributes:
        grid: As the server app has it.
        node_ids: Whom to ask, or ``"all"`` for every node that is connected then. Ask only nodes
            that you trust: whoever answers has a say in which neurons are flipped.
        merging: How findings are merged: ``"sum"``, as if all samples were in one place; or
            ``"median"`` or ``"trimmed_mean"``, which bound what a minority that lies can do.
        trim: Share of the nodes that ``"trimmed_mean"`` leaves out at either end.
        least: How many nodes have to answer; None for more than half of those asked.
        timeout: Seconds to wait for the answers to a question.
        lookahead: About how many thresholds to ask about in a message, since a message is slow.
        classify: False where the nodes answer with another ``score`` than accuracy.

    Raises:
        SettingsError: A value is out of range or of the wrong type.
    """

    grid: Grid
    node_ids: Sequence[int] | Literal["all"]
    merging: Rule = "sum"
    trim: float = 0.2
    least: int | None = None
    timeout: float = 300.0
    lookahead: int = 512
    classify: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise flain.SettingsError(
                f"expected the grid that the server app is given; got {self.grid!r}"
            )
        Merging(self.merging, self.trim)
        if not self.timeout > 0:
            raise flain.SettingsError(
                f"expected a timeout of more than 0 seconds; got {self.timeout}"
            )
        if self.least is not None:
            whole_number(self.least, "least, in nodes,", least=1)
        whole_number(self.lookahead, "lookahead, in thresholds,", least=1)
        if self.node_ids != "all":
            _check_ids(self.node_ids)

    @property
    def facts(self) -> SampleFacts:
        """What is known of the samples."""
        return SampleFacts(classify=self.classify)

    def scorer(self, network: Network) -> Scorer:
        """Who asks the nodes about this trained model.

        Raises:
            DataError: There are fewer nodes than have to answer.
        """
        node_ids = list(self.grid.get_node_ids() if self.node_ids == "all" else self.node_ids)
        least = len(node_ids) // 2 + 1 if self.least is None else self.least
        if len(node_ids) < least:
            raise flain.DataError(
                f"expected at least {least} trusted nodes to ask; there are {len(node_ids)}"
            )
        holders = _Nodes(self, node_ids)
        merging = Merging(self.merging, self.trim)
        samples = CoordinatedSamples(
            holders, merging, facts=self.facts, may_leave=True, least=least
        )
        return samples.scorer(network)


class _Nodes:
    """Implements :class:`~flain_core.federated.coordinator.Holders`."""

    def __init__(self, trusted: TrustedNodes, node_ids: Iterable[int]) -> None:
        self.lookahead = trusted.lookahead
        self._trusted = trusted
        self._node_ids = set(node_ids)

    def open(self, network: Network) -> None:
        """Be ready for questions about this trained model."""
        self._trained = write_trained(network)

    def ask(self, question: Question) -> Mapping[str, Answer | flain.FlainError]:
        """Everyone's answer; who gives none is asked no more, so as to wait for it only once."""
        replies = self._replies(write_question(question) | self._trained)
        answers = {node: self._answer(replies.get(node)) for node in sorted(self._node_ids)}
        self._node_ids = {node for node, each in answers.items() if isinstance(each, Answer)}
        return {f"node {node}": each for node, each in answers.items()}

    def _replies(self, arrays: Mapping[str, Array]) -> dict[int, Message]:
        record = ArrayRecord({name: FlowerArray(np.asarray(each)) for name, each in arrays.items()})
        messages = [
            Message(
                RecordDict({_RECORD: record}),
                dst_node_id=node,
                message_type=f"{MessageType.QUERY}.{ACTION}",
            )
            for node in sorted(self._node_ids)
        ]
        replies = self._trusted.grid.send_and_receive(messages, timeout=self._trusted.timeout)
        return {reply.metadata.src_node_id: reply for reply in replies}

    def _answer(self, reply: Message | None) -> Answer | flain.FlainError:
        if reply is None:
            return flain.DataError(f"no answer came within {self._trusted.timeout:g} seconds")
        if reply.has_error():
            return flain.DataError(f"it failed: {_printable(reply.error.reason)}")
        try:
            return read_answer(_arrays(reply))
        except flain.FlainError as error:
            return error
        except Exception as error:
            # Whatever a node has sent, the others' samples can still be used.
            return flain.DataError(f"its answer cannot be read ({type(error).__name__})")


def answer(
    message: Message,
    *,
    model: Any,
    data: Any,
    score: Score = flain.accuracy,
    batch_size: int | None = None,
) -> Message:
    """Answer a question of :class:`TrustedNodes`; what a client app does with ``query.flain``.

    Args:
        message: As it came.
        model: The architecture of the global model, its layers named as on the server. Its
            weights do not matter, and it is never changed.
        data: The clean samples of this node, in any form that :func:`flain_core.purify` takes.
        score: What a sample is worth; the server then says ``classify=False``.
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
    record = ArrayRecord({name: FlowerArray(each) for name, each in arrays.items()})
    return Message(RecordDict({_RECORD: record}), reply_to=message)


def _arrays(message: Message) -> dict[str, Array]:
    record = message.content.get(_RECORD)
    if not isinstance(record, ArrayRecord):
        raise flain.DataError(
            f"expected a message with an array record {_RECORD!r}; got {sorted(message.content)}"
        )
    arrays = to_arrays(record, _RECORD)
    return arrays if isinstance(arrays, dict) else {}


def _check_ids(node_ids: object) -> None:
    if (
        isinstance(node_ids, str)
        or not isinstance(node_ids, Sequence)
        or not all(isinstance(each, int) for each in node_ids)
    ):
        raise flain.SettingsError(
            f'expected node_ids to be the ids of the trusted nodes, or "all"; got {node_ids!r}'
        )
    if len(set(node_ids)) < len(node_ids) or not node_ids:
        raise flain.SettingsError(
            f"expected at least one node id, and each only once; got {node_ids!r}"
        )


def _printable(reason: str | None) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in (reason or "")[:500])
