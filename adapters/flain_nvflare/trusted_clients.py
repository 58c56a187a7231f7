"""Clean samples that trusted clients keep to themselves: the server asks for sums and counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.workflows.model_controller import ModelController

from flain_core import DataError, FlainError, SettingsError
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging, Rule
from flain_core.federated.messages import Answer, Question
from flain_core.federated.wire import read_answer, write_question, write_trained
from flain_core.network import Network
from flain_core.sample_source import SampleFacts, Scorer
from flain_core.settings import whole_number

__all__ = ["REASON", "TASK", "TrustedClients"]

TASK = "flain_question"
"""The task that :class:`~flain_nvflare.Answering` executes."""

REASON = "flain_reason"
"""The header of a result in which a client says why it has no answer."""

_LONGEST_REASON = 500


class TrustedClients:
    """Clean samples that lie at trusted clients, as the ``data`` of :class:`Purify`.

    The clients answer the task ``"flain_question"`` with :class:`Answering`. Each question carries
    the trained model; an answer holds sums over all samples of the client, never a sample. A client
    that fails, does not answer in time, or answers what cannot be true, is left out with a warning,
    and the search starts again with the others.

    ``docs/federated-auxiliary-data.md`` says what a client that lies can do, and what the answers
    give away.

    Args:
        clients: The names of those to ask, or ``"all"`` for every client that is connected then.
            Ask only clients that you trust: whoever answers has a say in which neurons are flipped.
        merging: How findings are merged: ``"sum"``, as if all samples were in one place; or
            ``"median"`` or ``"trimmed_mean"``, which bound what a minority that lies can do.
        trim: Share of the clients that ``"trimmed_mean"`` leaves out at either end.
        least: How many clients have to answer; None for more than half of those asked.
        timeout: Seconds to wait for the answers to a question.
        lookahead: About how many thresholds to ask about in a task, since a task is slow.

    Raises:
        SettingsError: A value is out of range or of the wrong type.

    Example:
        >>> from flain_nvflare import Purify
        >>> trusted = TrustedClients(["hospital-1", "hospital-2", "hospital-5"], merging="median")
        >>> purify = Purify(data=trusted, layers=["fc1"])
    """

    def __init__(
        self,
        clients: list[str] | Literal["all"],
        merging: Rule = "sum",
        trim: float = 0.2,
        least: int | None = None,
        timeout: float = 300.0,
        lookahead: int = 512,
    ) -> None:
        # A job's configuration is made of the attributes that are called like the arguments.
        self.clients = clients if isinstance(clients, str) else list(clients)
        if self.clients != "all":
            _check_names(self.clients)
        Merging(merging, trim)
        self.merging, self.trim = merging, trim
        if least is not None:
            least = whole_number(least, "least, in clients,", least=1)
        self.least = least
        if not timeout > 0:
            raise SettingsError(f"expected a timeout of more than 0 seconds; got {timeout}")
        self.timeout = timeout
        self.lookahead = whole_number(lookahead, "lookahead, in thresholds,", least=1)

    def asked_by(self, controller: ModelController) -> AskedBy:
        """The samples, asked about with tasks of a workflow that runs."""
        return AskedBy(self, controller)


@dataclass(frozen=True)
class AskedBy:
    """Implements :class:`~flain_core.sample_source.SampleSource`.

    Attributes:
        trusted: Whom to ask.
        controller: Whose tasks the questions are.
    """

    trusted: TrustedClients
    controller: ModelController

    @property
    def facts(self) -> SampleFacts:
        """What is known of the samples."""
        return SampleFacts()

    def scorer(self, network: Network) -> Scorer:
        """Who asks the clients about this trained model.

        Raises:
            DataError: There are fewer clients than have to answer.
        """
        trusted = self.trusted
        names = self.connected() if trusted.clients == "all" else trusted.clients
        least = len(names) // 2 + 1 if trusted.least is None else trusted.least
        if len(names) < least:
            raise DataError(
                f"expected at least {least} trusted clients to ask; there are {len(names)}"
            )
        merging = Merging(trusted.merging, trusted.trim)
        clients = _Clients(self, names)
        return CoordinatedSamples(clients, merging, may_leave=True, least=least).scorer(network)

    def connected(self) -> list[str]:
        """The names of all clients."""
        clients: list[Client] = self.controller.engine.get_clients()
        return [client.name for client in clients]


class _Clients:
    """Implements :class:`~flain_core.federated.coordinator.Holders`."""

    def __init__(self, asked: AskedBy, names: Iterable[str]) -> None:
        self.lookahead = asked.trusted.lookahead
        self._asked = asked
        self._names = set(names)

    def open(self, network: Network) -> None:
        """Be ready for questions about this trained model."""
        self._trained = write_trained(network)

    def ask(self, question: Question) -> Mapping[str, Answer | FlainError]:
        """Everyone's answer; who gives none is asked no more, so as to wait for it only once."""
        connected = self._names.intersection(self._asked.connected())
        results = self._results(question, sorted(connected)) if connected else {}
        answers = {
            name: self._answer(results.get(name), name in connected) for name in sorted(self._names)
        }
        self._names = {name for name, each in answers.items() if isinstance(each, Answer)}
        return answers

    def _results(self, question: Question, names: list[str]) -> dict[str, Shareable]:
        results: dict[str, Shareable] = {}

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001
            results[client_task.client.name] = client_task.result

        controller = self._asked.controller
        dxo = DXO(DataKind.APP_DEFINED, data=write_question(question) | self._trained)
        task = Task(
            name=TASK,
            data=dxo.to_shareable(),
            timeout=math.ceil(self._asked.trusted.timeout),
            result_received_cb=received,
        )
        controller.broadcast_and_wait(
            task=task,
            fl_ctx=controller.fl_ctx,
            targets=names,
            min_responses=len(names),
            abort_signal=controller.abort_signal,
        )
        if controller.is_aborted():
            raise FlainError("the job was aborted")
        return results

    def _answer(self, result: Shareable | None, connected: bool) -> Answer | FlainError:
        if not connected:
            return DataError("it is not connected")
        if result is None:
            return DataError(f"no answer came within {self._asked.trusted.timeout:g} seconds")
        try:
            code = result.get_return_code()
            if code != ReturnCode.OK:
                reason = result.get_header(REASON, "its own log says why")
                return DataError(f"it failed: {_printable(f'{code}, {reason}')}")
            return read_answer(from_shareable(result).data)
        except FlainError as error:
            return error
        except Exception as error:
            # Whatever a client has sent, the others' samples can still be used.
            return DataError(f"its answer cannot be read ({type(error).__name__})")


def _check_names(clients: object) -> None:
    if (
        not isinstance(clients, list)
        or not clients
        or not all(isinstance(name, str) and name for name in clients)
        or len(set(clients)) < len(clients)
    ):
        raise SettingsError(
            'expected clients to be the names of the trusted clients, each only once, or "all"; '
            f"got {clients!r}"
        )


def _printable(text: Any) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_REASON])
