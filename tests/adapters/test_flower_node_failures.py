"""What can go wrong with a trusted node: it fails, is gone, answers garbage, or lies."""

import numpy as np
import pytest
from in_process import split, upside_down

import flain_core as flain
from flain_core import FlainError, FlainWarning

pytest.importorskip("flwr", reason="flwr is not installed")
pytest.importorskip("torch")
records = pytest.importorskip("flwr.app")
clientapp = pytest.importorskip("flwr.clientapp")
serde = pytest.importorskip("flwr.common.serde")
to_arrays = pytest.importorskip("flain_flower.purify").to_arrays

from flower_trusted_nodes import (  # noqa: E402
    CLEAN,
    PARTS,
    Nodes,
    assert_same,
    client_app,
    nodes_asked,
    purify,
    serial,
    through_the_wire,
)

pytestmark = pytest.mark.usefixtures("flower_alone")


def only(node, change):
    return lambda who, arrays: change(arrays) if who == node else arrays


def damaged(arrays):
    data = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9"
    name = next(iter(arrays))
    return arrays | {name: records.Array("float64", (9,), "numpy.ndarray", data)}


def pickled(arrays):
    import io

    stream = io.BytesIO()
    np.save(stream, np.array([object()]), allow_pickle=True)
    name = next(iter(arrays))
    return arrays | {name: records.Array("object", (1,), "numpy.ndarray", stream.getvalue())}


def enormous(arrays):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000000,), }"
    data = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little")
    data += header.encode() + b"\n"
    name = next(iter(arrays))
    return arrays | {name: records.Array("float64", (9,), "numpy.ndarray", data)}


def infinite(arrays):
    return {
        name: np.full_like(each, np.inf) if each.dtype.kind == "f" else each
        for name, each in arrays.items()
    }


def longer(arrays):
    return {name: np.concatenate([np.atleast_1d(each)] * 2) for name, each in arrays.items()}


def more_right_than_there_are(arrays):
    return {
        name: each * np.array([1e6, 1, 1]) if name == "clean" else each
        for name, each in arrays.items()
    }


GARBAGE = {
    "damaged": damaged,
    "pickled": pickled,
    "enormous": enormous,
    "infinite": infinite,
    "of the wrong size": longer,
    "impossible": more_right_than_there_are,
    "nothing": lambda arrays: {},
    "another record": lambda arrays: records.RecordDict({"flain": records.MetricRecord({"a": 1})}),
    "no record": lambda arrays: records.RecordDict({}),
    "a list": lambda arrays: {"0": np.ones(3), "1": np.ones(3)},
}


def test_numbers_that_are_declared_and_not_there_are_not_made_room_for():
    arrays = enormous({"x": records.Array(np.zeros(9))})
    with pytest.raises(FlainError, match="does not hold as many numbers") as caught:
        to_arrays(records.ArrayRecord(arrays), "the message")
    assert not isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_node_that_answers_garbage_is_left_out(garbage):
    grid = Nodes(tamper=only(2, garbage))
    with pytest.warns(FlainWarning, match="node 2, which holds .* is left out from now on"):
        result = purify(grid)
    assert_same(result, serial(PARTS[0], PARTS[2]))


def test_a_node_that_never_answers_is_asked_twice():
    grid = Nodes(silent={2})
    with pytest.warns(FlainWarning, match="node 2, .*: no answer came within 14 seconds"):
        result = purify(grid, timeout=7.0)
    assert_same(result, serial(PARTS[0], PARTS[2]))
    assert nodes_asked(grid).count(2) == 2
    assert grid.timeouts[:3] == [7, 14, 7]


class SomeGone(Nodes):
    """What the SuperLink says in place of some nodes, in its own name and with an error's code."""

    def __init__(self, code, *, times=9, **options):
        super().__init__(**options)
        self.code, self.times = code, times

    def _answers(self, message):
        if message.metadata.dst_node_id != 2 or not self.times:
            yield from super()._answers(message)
            return
        self.times -= 1
        self.sent.append(serde.message_to_proto(message).SerializeToString())
        reply = records.Message(
            records.Error(code=self.code, reason="Node Unavailable"), reply_to=message
        )
        reply.metadata.__dict__["_src_node_id"] = 1  # that of a SuperLink, and of a node here
        yield through_the_wire(reply)


@pytest.mark.parametrize(
    ("code", "told"),
    [(3, "question got lost"), (4, "answer got lost"), (5, "not connected"), (8, "crashed")],
)
def test_a_node_that_is_gone_is_reported_as_gone(code, told):
    grid = SomeGone(code)
    with pytest.warns(FlainWarning, match=rf"node 2, .*{told} .*\(Node Unavailable\)"):
        result = purify(grid)
    assert_same(result, serial(PARTS[0], PARTS[2]))
    assert nodes_asked(grid).count(2) == 2


@pytest.mark.filterwarnings("error::flain_core.FlainWarning")
def test_a_node_that_comes_back_stays():
    assert_same(purify(SomeGone(5, times=1)), serial(*PARTS))


def test_what_was_done_and_who_was_left_out_is_in_flowers_log(caplog):
    caplog.set_level("INFO", "flwr")
    with pytest.warns(FlainWarning, match="node 2"):
        result = purify(Nodes(silent={2}), timeout=7)
    told = [each.message for each in caplog.records if each.name == "flwr"]
    assert sum("FLAIN: node 2, which holds auxiliary samples, is left out" in e for e in told) == 1
    assert any(each.startswith("FLAIN: Purification(") for each in told)
    for note in result.purification.notes:
        assert told.count(f"FLAIN: {note}") == 1


def test_the_codes_are_flowers():
    from flain_flower.trusted_nodes import _MISSED

    codes = pytest.importorskip("flwr.common.constant").ErrorCode
    assert set(_MISSED) == {
        codes.MESSAGE_UNAVAILABLE,
        codes.REPLY_MESSAGE_UNAVAILABLE,
        codes.NODE_UNAVAILABLE,
        codes.CLIENT_APP_CRASHED,
    }


def test_what_fails_at_a_node_is_told_but_cannot_drive_a_terminal():
    app = clientapp.ClientApp()

    @app.query("flain")
    def query(message, context):
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("no clean samples\x1b[2J")
        return client_app()(message, context)

    with pytest.warns(FlainWarning, match=r"node 2, .*: it failed: no clean samples\?\[2J"):
        purify(Nodes(app))


def test_samples_that_do_not_fit_are_told_of():
    parts = [PARTS[0], (np.ones((5, 7), np.float32), np.zeros(5, int)), PARTS[2]]
    with pytest.warns(FlainWarning, match="node 2, .* left out"):
        result = purify(Nodes(parts=parts))
    assert_same(result, serial(PARTS[0], PARTS[2]))


def test_too_few_that_answer_are_an_error():
    grid = Nodes(silent={2, 3})
    with (
        pytest.warns(FlainWarning, match="left out"),
        pytest.raises(flain.DataError, match=r"expected at least 2 holders .*; 1 did"),
    ):
        purify(grid)


def test_one_who_lies_is_outvoted_by_the_median():
    parts, _ = split(CLEAN, 5)

    def flipped(merging):
        grid = Nodes(parts=parts, tamper=only(2, upside_down))
        return purify(grid, merging=merging).purification.layers[0].flipped

    trigger = np.arange(12) >= 9
    with pytest.warns(FlainWarning, match="not flipped: the model is as it was"):
        assert not flipped("sum").any()
    assert flipped("median")[trigger].all()


def test_one_who_contradicts_itself_is_left_out():
    def lie(arrays):
        # Of the trained model and of many candidates at once it tells the truth; of the purified
        # model it does not.
        if len(arrays.get("clean", ())) == 1 and arrays["loss"][0, 0]:
            count, before = arrays["loss"][0, 3:5]
            lost = np.array([[before, before**2 / count, count, count, before, 0]])
            return arrays | {"clean": arrays["clean"] * np.array([0, 1, 1]), "loss": lost}
        return arrays

    with pytest.warns(FlainWarning, match=r"node 2, .* candidate scores \d+, and then 0"):
        result = purify(Nodes(tamper=only(2, lie)))
    assert_same(result, serial(PARTS[0], PARTS[2]))
