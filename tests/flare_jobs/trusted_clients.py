"""Clients of the job with trusted clients: one that trained already, one that lies."""

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor

from flain_nvflare import Answering


class Trained(Executor):
    """Sends the model in a file, as if it had just trained it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        weights = {"numpy_key": np.load(self.path)}
        meta = {"NUM_STEPS_CURRENT_ROUND": 1}
        return DXO(DataKind.WEIGHTS, data=weights, meta=meta).to_shareable()


class Lying(Answering):
    """Says that more samples were classified right than it has."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        arrays = from_shareable(super().execute(task_name, shareable, fl_ctx, abort_signal)).data
        if "clean" in arrays:
            arrays["clean"] = arrays["clean"] * np.array([1000, 1, 1])
        return DXO(DataKind.APP_DEFINED, data=arrays).to_shareable()
