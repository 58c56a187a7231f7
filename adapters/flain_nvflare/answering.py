"""Executor of a trusted client: answers questions about its clean samples."""

from __future__ import annotations

from typing import Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from flain_core.federated.holder import answered
from flain_core.network import Array

from .arguments import architecture, checked_path, custom_folder
from .trusted_clients import REASON, TASK


class Answering(Executor):
    """Answers the questions of :class:`TrustedClients` about clean samples of this client.

    Add it for the task ``"flain_question"``, beside whatever trains. Only sums and counts over all
    of the samples leave the client. Nothing that comes in is unpickled. The model travels once: the
    executor keeps it from one question to the next, while the job runs.

    Args:
        data: The path at the client of an ``.npz`` file with ``x`` and ``y``. A relative path, here
            and below, starts from the ``custom`` folder of the client's app. For samples in another
            form override :meth:`samples`.
        model: The architecture of the global model, its layers named as on the server:
            ``"package.module:factory"``, the path of a file that holds a whole model, or a model,
            which NVIDIA FLARE takes into the job. Its weights do not matter.
        batch_size: Samples per pass; None lets the size of a sample decide.

    Example:
        >>> answering = Answering(data="/data/clean.npz", model="my_package.models:make_network")
        >>> answering.data
        '/data/clean.npz'
    """

    def __init__(self, data: str, model: Any, batch_size: int | None = None) -> None:
        super().__init__()
        # A job's configuration is made of the attributes that are called like the arguments.
        self.data = checked_path(data, "data")
        self.model = model
        self.batch_size = batch_size
        self._memory: dict[str, Array] = {}

    def samples(self, fl_ctx: FLContext) -> Any:
        """Return the clean samples, in any form that :func:`flain_core.purify` takes."""
        return custom_folder(fl_ctx) / self.data

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Answer one question."""
        if task_name != TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        try:
            arrays = answered(
                from_shareable(shareable).data,
                architecture(self.model, None, custom_folder(fl_ctx)),
                self.samples(fl_ctx),
                batch_size=self.batch_size,
                memory=self._memory,
            )
        except Exception as error:
            # Whatever is wrong here, the server goes on with the other clients.
            self.log_exception(fl_ctx, f"no answer about the clean samples: {error}")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION, {REASON: str(error)})
        result: Shareable = DXO(DataKind.APP_DEFINED, data=arrays).to_shareable()
        return result
