"""A federation: Flower's strategies and client app, in this process or in Flower's simulation.

In this process rounds start from a file and end in one, so that training can be cut off anywhere
and repeats one round at most.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import (
    Bulyan,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Strategy,
)
from flwr.supercore.task_identity import TaskIdentity

from . import attackers, data, networks, partition
from .files import locked, written
from .rows import Row
from .training import Plan, State, boosted, copied, derived, packed, train, unpacked
from .triggers import trigger

# --- Server --------------------------------------------------------------------------


def _bulyan(row: Row, options: dict[str, Any]) -> Strategy:
    # Bulyan allows at most (n - 3) / 4 malicious ones of n.
    allowed = min(round(row.mcr * row.sampled), (row.sampled - 3) // 4)
    return Bulyan(num_malicious_nodes=allowed, **options)


def _multi_krum(row: Row, options: dict[str, Any]) -> Strategy:
    malicious = round(row.mcr * row.sampled)
    kept = row.sampled - malicious
    return MultiKrum(num_malicious_nodes=malicious, num_nodes_to_select=kept, **options)


# Each gets the true MCR, which favours it.
STRATEGIES: dict[str, Callable[[Row, dict[str, Any]], Strategy]] = {
    "fedavg": lambda row, options: FedAvg(**options),
    "krum": lambda row, options: Krum(num_malicious_nodes=round(row.mcr * row.sampled), **options),
    "multi-krum": _multi_krum,
    "median": lambda row, options: FedMedian(**options),
    "trimmed-mean": lambda row, options: FedTrimmedAvg(beta=row.mcr, **options),
    "bulyan": _bulyan,
}


def one_round(row: Row, grid: Grid, state: State, number: int) -> State:
    """The global state after round ``number``, counted from 1."""
    random.seed(derived(row.seed, number))
    options = {
        "fraction_train": 1e-9,  # The next option says how many; 0 would mean no training.
        "min_train_nodes": row.sampled,
        "min_available_nodes": row.sampled,
        "fraction_evaluate": 0.0,
    }
    strategy = STRATEGIES[row.strategy](row, options)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    result = strategy.start(
        grid, packed(state), num_rounds=1, train_config=ConfigRecord({"number": number})
    )
    return unpacked(result.arrays, state)


# --- Clients -------------------------------------------------------------------------


@lru_cache(maxsize=2)
def divided(name: str, seed: int) -> data.DataSet:
    """The data set as a seed divides it."""
    return data.divided(name, seed)


@lru_cache(maxsize=2)
def _dealt(name: str, seed: int, clients: int, how: str) -> list[data.Indices]:
    return partition.dealt(divided(name, seed).clients.labels, clients, how, seed)


def holding(row: Row, number: int) -> data.Images:
    """The clean images of a client, numbered from 0."""
    at = _dealt(row.data, row.seed, row.clients, row.partition)[number]
    return divided(row.data, row.seed).clients.take(at)


@lru_cache(maxsize=8)
def poisoned_holding(row: Row, number: int) -> data.Images:
    """What a malicious client trains on."""
    held = holding(row, number)
    mark = trigger(row.trigger, held.pixels.shape[-1], held.pixels.shape[1])
    return attackers.poisoned(row, mark, held, number, divided(row.data, row.seed).spare)


def tensors(row: Row, images: data.Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Network inputs and classes of some images, on the row's device."""
    scaled = divided(row.data, row.seed).inputs(images.pixels)
    x, y = torch.from_numpy(scaled), torch.from_numpy(images.labels)
    return x.to(row.device), y.to(row.device)


def client_app(row: Row) -> ClientApp:
    """Flower's client app of a row, which deals with honest and malicious clients."""
    app = ClientApp()

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        number = int(message.content["config"]["number"])  # type: ignore[arg-type]
        module = networks.built(row.network, row.seed)
        before = unpacked(message.content["arrays"], copied(module))  # type: ignore[arg-type]
        module.load_state_dict(before)
        module.to(row.device)
        held, plan = holding(row, client), Plan()
        count = len(held)
        if client < row.malicious and number > row.clean:
            module.eval()
            plan = _plan(row, module, held)
            held = poisoned_holding(row, client)
            if plan.boost > 1:
                # A boosted update is to weigh what an average one does, and clients may lie.
                count = len(divided(row.data, row.seed).clients) // row.clients
        train(module, *tensors(row, held), row.epochs, derived(row.seed, number, client), plan)
        sent = packed(boosted(module, before, plan.boost) if plan.boost > 1 else copied(module))
        metrics = MetricRecord({"num-examples": count})
        return Message(RecordDict({"arrays": sent, "metrics": metrics}), reply_to=message)

    return app


def _plan(row: Row, module: torch.nn.Module, held: data.Images) -> Plan:
    mark = trigger(row.trigger, held.pixels.shape[-1], held.pixels.shape[1])

    def triggered() -> torch.Tensor:
        return tensors(row, data.Images(mark.stamp(held.pixels), held.labels))[0]

    return attackers.planned(attackers.Scene(row, module, *tensors(row, held), triggered))


# --- In this process -----------------------------------------------------------------


class Local(Grid):
    """Hands messages to a client app at once; ``nodes`` are the numbers of the clients."""

    def __init__(self, app: ClientApp, nodes: Sequence[int]) -> None:
        self._app, self._nodes = app, nodes
        # A message takes its sender from this class, which Flower's processes set for themselves.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0

    def get_node_ids(self) -> Iterable[int]:
        """Node 1 is client 0; Flower's server is node 0."""
        return [client + 1 for client in self._nodes]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Every client's answer, in the order of the messages."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(1, node, {"partition-id": node - 1}, RecordDict(), {})
        return self._app(message, context)

    def set_run(self, run: Any) -> None:
        """Is not needed here."""
        raise NotImplementedError

    @property
    def run(self) -> Any:
        """Is not needed here."""
        raise NotImplementedError

    def create_message(self, *given: Any, **named: Any) -> Message:
        """Is not needed here."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Is not needed here."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Is not needed here."""
        raise NotImplementedError


def present(row: Row, number: int) -> Sequence[int]:
    """The clients that can be sampled in a round: all, or a lone attacker and honest ones."""
    if row.technique in attackers.ALONE and number > row.clean and row.malicious:
        rng = np.random.default_rng((row.seed, number))
        honest = rng.permutation(np.arange(row.malicious, row.clients))
        return [0, *honest[: row.sampled - 1].tolist()]
    return range(row.clients)


Report = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Reports nothing."""


def trained(row: Row, models: Path, report: Report = _silent) -> tuple[State, State]:
    """The first and the last global state; continues from what ``models`` holds of the row."""
    first = copied(networks.built(row.network, row.seed))
    state = _honest(row, models / "starts" / row.start, first, report)
    running = models / "running" / f"{row.name}-{row.key}.pt"
    done = row.clean
    if running.exists():
        saved = torch.load(running, weights_only=True)
        done, state = saved["done"], saved["state"]
    for number in range(done + 1, row.clean + row.attacked + 1):
        state = one_round(row, Local(client_app(row), present(row, number)), state, number)
        written(running, lambda path: torch.save({"done": number, "state": state}, path))  # noqa: B023
        report(number, row.clean + row.attacked)
    return first, state


def forget(row: Row, models: Path) -> None:
    """Removes what :func:`trained` keeps to continue from, once its result is stored."""
    (models / "running" / f"{row.name}-{row.key}.pt").unlink(missing_ok=True)


def _honest(row: Row, folder: Path, first: State, report: Report) -> State:
    """The state after the row's honest rounds, each of which is stored for other rows."""
    if not row.clean:
        return first
    with locked(folder / "lock"):
        done = max(
            (number for number in range(1, row.clean + 1) if (folder / f"{number}.pt").exists()),
            default=0,
        )
        state = torch.load(folder / f"{done}.pt", weights_only=True) if done else first
        app = client_app(row)
        for number in range(done + 1, row.clean + 1):
            state = one_round(row, Local(app, range(row.clients)), state, number)
            written(folder / f"{number}.pt", lambda path: torch.save(state, path))  # noqa: B023
            report(number, row.clean + row.attacked)
    return state


# --- In Flower's simulation ----------------------------------------------------------


def simulated(row: Row) -> tuple[State, State]:
    """The same through Flower's simulation engine, which starts Ray; nothing is stored."""
    from flwr.simulation import run_simulation

    first = copied(networks.built(row.network, row.seed))
    states = [first]
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        for number in range(1, row.clean + row.attacked + 1):
            states.append(one_round(row, grid, states[-1], number))

    run_simulation(server, client_app(row), num_supernodes=row.clients)
    return first, states[-1]
