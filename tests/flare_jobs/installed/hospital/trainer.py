"""An executor that trains on the site's samples; those of site-1 are poisoned."""

import backdoored
import numpy as np
import torch
from nvflare.apis.executor import Executor
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from .network import Network


class Trainer(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        torch.set_num_threads(1)
        number = int(fl_ctx.get_identity_name().removeprefix("site-"))
        x, y = backdoored.samples(600, seed=number)
        if number == 1:
            bad_x, bad_y = backdoored.triggered(300, seed=20)
            x, y = np.vstack([x, bad_x]), np.concatenate([y, bad_y])
        network = Network()
        received = FLModelUtils.from_shareable(shareable)
        state = {name: torch.as_tensor(value) for name, value in received.params.items()}
        network.load_state_dict(state)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            scores = network(torch.from_numpy(x))
            torch.nn.functional.cross_entropy(scores, torch.from_numpy(y)).backward()
            optimizer.step()
        state = {name: value.numpy() for name, value in network.state_dict().items()}
        model = FLModel(ParamsType.FULL, state, meta={"NUM_STEPS_CURRENT_ROUND": len(y)})
        return FLModelUtils.to_shareable(model)
