"""Trusted nodes in this process: each holds a part of the clean samples, and is asked by Flower."""

import backdoored
import numpy as np
from flower_federation import Local
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageOnTheWire
from in_process import as_elsewhere, split

import flain_core as flain
import flain_flower
import flain_numpy

CLEAN = backdoored.samples(300, seed=11)
UNTRAINED, FINAL = backdoored.networks()
PARTS, SIZE = split(CLEAN, 3)


class Fallible(Local):
    """What a client app raises comes back as an error message, as Flower's workers make it."""

    def _answers(self, message):
        try:
            yield from super()._answers(message)
        except Exception as error:
            yield Message(Error(code=2, reason=str(error)), reply_to=message)


class Nodes(Fallible):
    """Nodes that hold a part of the samples each; what they send goes over Flower's wire."""

    def __init__(self, app=None, *, silent=(), tamper=None, parts=PARTS):
        super().__init__(app or client_app(parts), silent=silent)
        self.tamper = tamper or (lambda node, arrays: arrays)
        self.parts = parts

    def get_node_ids(self):
        return list(range(1, len(self.parts) + 1))

    def _answers(self, message):
        message = through_the_wire(message)
        for reply in super()._answers(message):
            if reply.has_content():
                record = reply.content["flain"]
                arrays = {name: each.numpy() for name, each in record.items()}
                reply = self.reply(message, self.tamper(message.metadata.dst_node_id, arrays))
            yield through_the_wire(reply)

    def reply(self, message, arrays):
        if not isinstance(arrays, dict):
            return Message(arrays, reply_to=message)
        packed = {
            name: each if isinstance(each, Array) else Array(np.asarray(each))
            for name, each in arrays.items()
        }
        content = RecordDict({"flain": ArrayRecord(packed)})
        return Message(content, reply_to=message)


def through_the_wire(message):
    return message_from_proto(message_to_proto(message))


def client_app(parts=PARTS, *, remember=True):
    """Answers with the samples of the node; ``remember`` lets it keep the model in its state."""
    app = ClientApp()

    @app.query("flain")
    def query(message, context):
        x, y = parts[context.node_config["partition-id"]]
        kept = context if remember else None
        return flain_flower.answer(message, kept, model=UNTRAINED, data=(x, y), batch_size=SIZE)

    return app


def array_record(network):
    return ArrayRecord({name: Array(each) for name, each in flain_numpy.arrays_of(network).items()})


def purify(grid, node_ids="all", **options):
    """Purify with what the nodes say."""
    return flain_flower.purify(
        array_record(UNTRAINED),
        array_record(FINAL),
        model=UNTRAINED,
        data=flain_flower.TrustedNodes(grid, node_ids, **options),
    )


def serial(*parts):
    """Purify with the samples of these parts in one place."""
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return flain.purify(
        FINAL, initial=UNTRAINED, data=(x, y), batch_size=SIZE, settings=as_elsewhere()
    )


def assert_same(result, expected):
    ours = result.purification
    assert ours.before == expected.before
    assert ours.after == expected.after
    assert ours.layers[0].threshold == expected.layers[0].threshold
    np.testing.assert_array_equal(ours.layers[0].flipped, expected.layers[0].flipped)
    for name, each in flain_numpy.arrays_of(expected.model).items():
        np.testing.assert_array_equal(result.arrays[name].numpy(), each)


def nodes_asked(grid):
    """Ids in the order of the messages, each as often as it was asked."""
    return [node_asked(each) for each in grid.sent]


def node_asked(sent):
    return message_from_proto(MessageOnTheWire.FromString(sent)).metadata.dst_node_id
