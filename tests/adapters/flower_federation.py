"""A small federation in this process: Flower's real strategies and client app, without Ray.

Seven clients learn the data of ``backdoored``; the first two are malicious. Each of them calls the
client app directly, so that a round takes milliseconds.
"""

import random

import numpy as np
import torch
from backdoored import CLASSES, FEATURES, samples, triggered
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid
from torch import nn

try:
    from flwr.supercore.task_identity import TaskIdentity
except ModuleNotFoundError:

    class TaskIdentity:
        """Stands in for what older Flowers lack: their messages need no sender."""

        _task_id = _run_id = _node_id = None


CLIENTS, MALICIOUS = 7, 2


class Local(Grid):
    """Answers messages with a client app, and keeps what was sent.

    Nodes in ``silent`` never answer, those in ``failing`` answer with an error.
    """

    def __init__(self, app, *, silent=(), failing=()):
        self._app, self._silent, self._failing = app, set(silent), set(failing)
        self.sent, self.timeouts = [], []
        self.states, self._numbered = {}, 0
        # A message takes its sender from this class, which Flower's processes set for themselves.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0

    def get_node_ids(self):
        return list(range(1, CLIENTS + 1))

    def send_and_receive(self, messages, *, timeout=None):
        self.timeouts.append(timeout)
        messages = list(messages)
        for message in messages:
            # As Flower's own grids do it; replies name it.
            self._numbered += 1
            message.metadata.__dict__["_message_id"] = f"message {self._numbered}"
        return [reply for message in messages for reply in self._answers(message)]

    def _answers(self, message):
        self.sent.append(message_to_proto(message).SerializeToString(deterministic=True))
        node = message.metadata.dst_node_id
        if node in self._silent:
            return
        if node in self._failing:
            yield Message(Error(code=0, reason="out of memory"), reply_to=message)
            return
        config = {"partition-id": node - 1, "num-partitions": CLIENTS}
        state = self.states.setdefault(node, RecordDict())
        yield self._app(message, Context(1, node, config, state, {}))

    def set_run(self, run):
        raise NotImplementedError

    run = create_message = push_messages = pull_messages = set_run


def network(seed=0):
    """12 → 16 → 3, untrained."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def normalized_network(seed=0):
    """The same with batch normalization, whose counter averaging turns into a float."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)
    )


def holding(number):
    """What a client trains on."""
    x, y = samples(200, seed=100 + number)
    if number < MALICIOUS:
        bad_x, bad_y = triggered(200, seed=200 + number)
        x, y = np.concatenate([x, bad_x]), np.concatenate([y, bad_y])
    return torch.from_numpy(x), torch.from_numpy(y)


def train(module, x, y, steps=25):
    """Full-batch Adam, in place."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def client_app(build=network, pack=ArrayRecord, mods=()):
    """A client app that trains ``build()``; ``pack`` turns its state dict into the reply."""
    app = ClientApp()

    def opened(message):
        module = build()
        names = list(module.state_dict())
        arrays = message.content["arrays"]
        keys = names if set(arrays) == set(names) else map(str, range(len(names)))
        tensors = (torch.tensor(arrays[key].numpy()) for key in keys)
        module.load_state_dict(dict(zip(names, tensors, strict=True)))
        return module

    @app.train(mods=list(mods))
    def fit(message, context):
        x, y = holding(context.node_config["partition-id"])
        module = opened(message)
        train(module, x, y)
        metrics = MetricRecord({"num-examples": len(y)})
        record = RecordDict({"arrays": pack(module.state_dict()), "metrics": metrics})
        return Message(record, reply_to=message)

    @app.evaluate()
    def judge(message, context):
        x, y = holding(context.node_config["partition-id"])
        right = accuracy(opened(message), x, y)
        metrics = MetricRecord({"num-examples": len(y), "accuracy": right})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def accuracy(module, x, y):
    """A share from 0 to 1."""
    module.eval()
    with torch.no_grad():
        scores = module(torch.as_tensor(x))
    return float((scores.argmax(1) == torch.as_tensor(y)).float().mean())


def measured(module, arrays):
    """ACC and ASR of arrays by name, on samples that nobody trained on."""
    module.load_state_dict({name: torch.tensor(value.numpy()) for name, value in arrays.items()})
    return accuracy(module, *samples(600, seed=7)), accuracy(module, *triggered(600, seed=8))


def reseed():
    """Strategies sample nodes and draw noise from the global generators."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
