"""Flower's simulation, clean samples at trusted nodes: python flower_trusted_simulation.py OUT.

Seven nodes. Four have a quarter of the example's auxiliary samples each, and nobody else has any.
One is trusted and answers infinity; one is trusted and says that the least active neurons are the
most active; one is not trusted.
"""

import sys
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from in_process import upside_down

import flain_flower
import flain_numpy
from flain_cli import example

INITIAL, FINAL, AUXILIARY, *_ = example.files().paths
HONEST, INFINITE, POSSIBLE, NODES = 4, 4, 5, 7

client = ClientApp()


@client.query("flain")
def answer(message, context):
    number = context.node_config["partition-id"]
    if number > POSSIBLE:
        raise AssertionError("a node was asked that is not trusted")
    with np.load(AUXILIARY) as samples:
        mine = np.arange(len(samples["y"])) % HONEST == number % HONEST
        data = samples["x"][mine], samples["y"][mine]
    reply = flain_flower.answer(message, context, model=flain_numpy.load(INITIAL), data=data)
    arrays = {name: array.numpy() for name, array in reply.content["flain"].items()}
    if number == INFINITE and "total" in arrays:
        arrays["total"] = np.full_like(arrays["total"], np.inf)
    if number == POSSIBLE:
        arrays = upside_down(arrays)
    return Message(RecordDict({"flain": packed(arrays)}), reply_to=message)


@client.query("partition")
def partition(message, context):
    record = MetricRecord({"partition": context.node_config["partition-id"]})
    return Message(RecordDict({"metrics": record}), reply_to=message)


server = ServerApp()


@server.main()
def main(grid, context):
    nodes = partitions(grid)
    for merging, liar in (("sum", INFINITE), ("median", POSSIBLE)):
        trusted = [nodes[number] for number in (*range(HONEST), liar)]
        result = flain_flower.purify(
            packed(flain_numpy.arrays_of(flain_numpy.load(INITIAL))),
            packed(flain_numpy.arrays_of(flain_numpy.load(FINAL))),
            model=INITIAL,
            data=flain_flower.TrustedNodes(grid, trusted, merging=merging, timeout=60),
        )
        arrays = {key: array.numpy() for key, array in result.arrays.items()}
        np.savez(OUT / f"{merging}.npz", **arrays)
        np.save(OUT / f"{merging}.npy", result.purification.layers[0].flipped)


def partitions(grid):
    """Which node has which partition."""
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=f"{MessageType.QUERY}.partition")
        for node in waited_for(grid)
    ]
    replies = grid.send_and_receive(messages)
    return {
        int(reply.content["metrics"]["partition"]): reply.metadata.src_node_id for reply in replies
    }


def waited_for(grid):
    while len(nodes := list(grid.get_node_ids())) < NODES:
        pass
    return nodes


def packed(arrays):
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


if __name__ == "__main__":
    OUT = Path(sys.argv[1])
    run_simulation(
        server,
        client,
        num_supernodes=NODES,
        backend_config={
            "init_args": {"num_cpus": 2, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
        },
    )
