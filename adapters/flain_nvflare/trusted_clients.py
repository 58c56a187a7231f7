"""Clean samples that trusted clients keep to themselves: the server asks for sums and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.workflows.model_controller import ModelController

from flain_core import DataError, FlainError, SettingsError
from flain_core.federated.trusted import MissedError, Reply, Trusted
from flain_core.network import Array

TASK = "flain_question"
"""The task that :class:`~flain_nvflare.Answering` executes."""

REASON = "flain_reason"
"""The header of a result in which a client says why it has no answer."""


@dataclass(frozen=True)
class TrustedClients(Trusted[str]):
    """Clean samples that lie at trusted clients, as the ``data`` of :class:`Purify`.

    The clients answer the task ``"flain_question"`` with :class:`Answering`.
    :class:`~flain_core.federated.trusted.Trusted` says what is asked and what becomes of a client
    that does not answer, and explains ``merging``, ``trim``, ``least``, ``timeout`` and
    ``lookahead``.

    Attributes:
        clients: Names of the clients to ask, or ``"all"`` for every client that is connected then.
            Ask only clients that you trust: whoever answers has a say in which neurons are flipped.

    Raises:
        SettingsError: A value is out of range or of the wrong type.

    Example:
        >>> from flain_nvflare import Purify
        >>> trusted = TrustedClients(["hospital-1", "hospital-2", "hospital-5"], merging="median")
        >>> purify = Purify(data=trusted, layers=["fc1"])
    """

    kind = "client"
    argument = "clients"
    id_type = str

    clients: Sequence[str] | Literal["all"]
    _workflow: ModelController | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.clients, Sequence) and not isinstance(self.clients, str):
            # A job's configuration holds lists.
            object.__setattr__(self, "clients", list(self.clients))
        super().__post_init__()

    def asked_by(self, workflow: ModelController) -> TrustedClients:
        """Return the samples, asked about with tasks of a workflow that runs."""
        bound = replace(self)
        object.__setattr__(bound, "_workflow", workflow)
        return bound

    def connected(self) -> Sequence[str]:
        """Return the names of all clients."""
        return [client.name for client in self._running.engine.get_clients()]

    def send(
        self, letters: Mapping[str, Mapping[str, Array]], timeout: float
    ) -> Mapping[str, Reply]:
        """Broadcast each letter, as one task, to all clients that get it."""
        workflow = self._running
        connected = set(self.connected())
        results: dict[str, Shareable | None] = dict.fromkeys(set(letters) - connected)

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG001
            results[client_task.client.name] = client_task.result

        # As a rule all clients get the same.
        for letter in {id(each): each for each in letters.values()}.values():
            targets = [
                name for name, each in letters.items() if each is letter and name in connected
            ]
            if not targets:
                continue
            workflow.broadcast_and_wait(
                task=Task(
                    name=TASK,
                    data=DXO(DataKind.APP_DEFINED, data=dict(letter)).to_shareable(),
                    timeout=math.ceil(timeout),
                    result_received_cb=received,
                ),
                fl_ctx=workflow.fl_ctx,
                targets=targets,
                min_responses=len(targets),
                abort_signal=workflow.abort_signal,
            )
        if workflow.is_aborted():
            raise FlainError("the job was aborted")
        return {name: partial(_arrays, result) for name, result in results.items()}

    @property
    def _running(self) -> ModelController:
        if self._workflow is None:
            raise SettingsError(
                "expected trusted clients as the data of Purify, in a job that runs; nobody else "
                "can ask them"
            )
        return self._workflow


def _arrays(result: Shareable | None) -> Mapping[str, Array]:
    if result is None:
        raise MissedError("it is not connected")
    code = result.get_return_code()
    if code != ReturnCode.OK:
        reason = result.get_header(REASON, "its own log says why")
        raise DataError(f"it failed: {code}, {reason}")
    arrays: Mapping[str, Array] = from_shareable(result).data
    return arrays
