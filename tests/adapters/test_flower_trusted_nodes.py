"""Clean samples at trusted nodes, through Flower's query messages, in this process."""

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere, split, upside_down

import flain_core as flain
from flain_core import FlainError, FlainWarning

pytest.importorskip("flwr", reason="flwr is not installed")
pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
clientapp = pytest.importorskip("flwr.clientapp")
serde = pytest.importorskip("flwr.common.serde")
flain_flower = pytest.importorskip("flain_flower")
to_arrays = pytest.importorskip("flain_flower.purify").to_arrays
flower = pytest.importorskip("flwr.serverapp.strategy")
flain_numpy = pytest.importorskip("flain_numpy")

CLEAN = backdoored.samples(300, seed=11)
UNTRAINED, FINAL = backdoored.networks()
PARTS, SIZE = split(CLEAN, 3)


@pytest.fixture(autouse=True)
def _flower_in_this_process(monkeypatch, in_tmp_path):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(federation.TaskIdentity, name, None)


class Fallible(federation.Local):
    """What a client app raises comes back as an error message, as Flower's workers make it."""

    def _answers(self, message):
        try:
            yield from super()._answers(message)
        except Exception as error:
            yield records.Message(records.Error(code=2, reason=str(error)), reply_to=message)


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
            return records.Message(arrays, reply_to=message)
        packed = {
            name: each if isinstance(each, records.Array) else records.Array(np.asarray(each))
            for name, each in arrays.items()
        }
        content = records.RecordDict({"flain": records.ArrayRecord(packed)})
        return records.Message(content, reply_to=message)


def through_the_wire(message):
    return serde.message_from_proto(serde.message_to_proto(message))


def client_app(parts=PARTS, *, remember=True):
    app = clientapp.ClientApp()

    @app.query("flain")
    def query(message, context):
        x, y = parts[context.node_config["partition-id"]]
        kept = context if remember else None
        return flain_flower.answer(message, kept, model=UNTRAINED, data=(x, y), batch_size=SIZE)

    return app


def arrays(network):
    return records.ArrayRecord(
        {name: records.Array(each) for name, each in flain_numpy.arrays_of(network).items()}
    )


def purify(grid, node_ids="all", **options):
    return flain_flower.purify(
        arrays(UNTRAINED),
        arrays(FINAL),
        model=UNTRAINED,
        data=flain_flower.TrustedNodes(grid, node_ids, **options),
    )


def serial(*parts):
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


def test_the_answer_is_that_of_all_samples_in_one_place():
    assert_same(purify(Nodes()), serial(*PARTS))


def test_only_trusted_nodes_are_asked():
    grid = Nodes()
    assert_same(purify(grid, [1, 3]), serial(PARTS[0], PARTS[2]))
    asked = {serde.message_from_proto(_parsed(each)).metadata.dst_node_id for each in grid.sent}
    assert asked == {1, 3}


def _parsed(sent):
    from flwr.proto.message_pb2 import Message

    return Message.FromString(sent)


def test_a_search_takes_a_handful_of_messages():
    grid = Nodes()
    purify(grid)
    assert len(grid.sent) == 5 * len(PARTS)
    assert set(grid.timeouts) == {300.0}


def test_the_modules_of_nodes_and_server_may_be_of_pytorch():
    torch = pytest.importorskip("torch")

    def module(network):
        built = torch.nn.Sequential(
            torch.nn.Linear(12, 10), torch.nn.ReLU(), torch.nn.Linear(10, 7),
            torch.nn.ReLU(), torch.nn.Linear(7, 3),
        )  # fmt: skip
        given = [torch.from_numpy(each) for each in flain_numpy.arrays_of(network).values()]
        built.load_state_dict(dict(zip(built.state_dict(), given, strict=True)))
        return built

    app = clientapp.ClientApp()

    @app.query("flain")
    def query(message, context):
        part = PARTS[context.node_config["partition-id"]]
        return flain_flower.answer(message, model=module(UNTRAINED), data=part)

    final = module(FINAL)
    result = flain_flower.purify(
        records.ArrayRecord(module(UNTRAINED).state_dict()),
        records.ArrayRecord(final.state_dict()),
        model=module(UNTRAINED),
        data=flain_flower.TrustedNodes(Nodes(app), "all"),
    )
    expected = serial(*PARTS).layers[0].flipped
    np.testing.assert_array_equal(result.purification.layers[0].flipped, expected)


# --- What can go wrong with a node ---------------------------------------------------------------


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


def nodes_asked(grid):
    return [serde.message_from_proto(_parsed(each)).metadata.dst_node_id for each in grid.sent]


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


def test_the_model_travels_once_where_the_state_keeps_it(monkeypatch):
    from flain_core.federated import letters

    monkeypatch.setattr(letters, "_WORTH_KEEPING", 64)
    grid, forgetful = Nodes(), Nodes(client_app(remember=False))
    asked = [purify(each).purification.asked for each in (grid, forgetful)]
    assert asked[0].messages == asked[1].messages == 15
    assert asked[0].bytes_down < asked[1].bytes_down / 2
    first, *others = (len(each) for each in grid.sent if to_node_2(each))
    assert all(other < first for other in others)
    # What else lies in the state is left alone, and only hashes are added.
    kept = grid.states[2]["flain"]
    assert all(len(name) == 64 for name in kept)


def to_node_2(sent):
    return serde.message_from_proto(_parsed(sent)).metadata.dst_node_id == 2


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


# --- With the strategy ---------------------------------------------------------------------------


def trained(grid, **options):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    federation.reseed()
    strategy = flain_flower.Purify(
        flower.FedAvg(),
        model=federation.network(),
        data=flain_flower.TrustedNodes(grid, [5, 6, 7], timeout=5),
        **options,
    )
    initial = records.ArrayRecord(federation.network().state_dict())
    return strategy, lambda: strategy.start(grid, initial, num_rounds=4)


def app_with_clean_samples():
    """Nodes 5, 6 and 7 have a third each of clean samples that nobody else has."""
    app = federation.client_app()
    thirds, _ = split(backdoored.samples(400, seed=5), 3)

    @app.query("flain")
    def query(message, context):
        part = thirds[context.node_config["partition-id"] - 4]
        return flain_flower.answer(message, model=federation.network(), data=part)

    return app


def test_the_strategy_purifies_with_what_trusted_nodes_say():
    grid = federation.Local(app_with_clean_samples())
    strategy, start = trained(grid)
    result = start()
    _, before = federation.measured(federation.network(), strategy.trained_arrays)
    acc, after = federation.measured(federation.network(), result.arrays)
    assert before > 0.7
    assert after < 0.05
    assert acc > 0.9


@pytest.mark.filterwarnings("ignore:node .* left out:flain_core.FlainWarning")
def test_the_trained_model_is_not_lost_where_too_few_answer():
    without_a_query_function = federation.client_app()
    strategy, start = trained(Fallible(without_a_query_function))
    with pytest.raises(flain_flower.PurificationError, match="at least 2 holders") as caught:
        start()
    assert caught.value.result.arrays == strategy.trained_arrays
    strategy, start = trained(Fallible(without_a_query_function), on_error="keep")
    assert start().arrays == strategy.trained_arrays
    assert "at least 2 holders" in str(strategy.failure)


def test_options_that_belong_to_the_nodes_are_refused():
    nodes = flain_flower.TrustedNodes(Nodes(), "all")
    for options in ({"probes": {"ASR": CLEAN}}, {"batch_size": 5}):
        with pytest.raises(flain.SettingsError, match="TrustedNodes, which holds the samples"):
            flain_flower.Purify(flower.FedAvg(), model=UNTRAINED, data=nodes, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"grid": None}, "grid"),
        ({"node_ids": []}, "at least one node id"),
        ({"node_ids": [1, 1]}, "each only once"),
        ({"node_ids": "everyone"}, '"all"'),
        ({"node_ids": 5}, "ids of the trusted nodes"),
        ({"merging": "medium"}, "median"),
        ({"least": 0}, "least"),
        ({"timeout": 0}, "timeout"),
        ({"lookahead": 0}, "lookahead"),
    ],
)
def test_options_are_checked_at_once(options, match):
    with pytest.raises(flain.SettingsError, match=match):
        flain_flower.TrustedNodes(**{"grid": Nodes(), "node_ids": "all"} | options)


def test_fewer_nodes_than_have_to_answer_are_an_error():
    with pytest.raises(flain.DataError, match="at least 4 trusted nodes to ask; there are 3"):
        purify(Nodes(), least=4)
