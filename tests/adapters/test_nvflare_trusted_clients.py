"""Clean samples at trusted clients, through NVIDIA FLARE's tasks, without its network."""

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere, in_network, split, upside_down

import flain_core as flain
import flain_numpy
from flain_core import FlainWarning
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

pytest.importorskip("torch")
pytest.importorskip("nvflare")

import flare_server
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.impl.wf_comm_server import WFCommServer
from nvflare.apis.shareable import make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.app_common.decomposers import common_decomposers
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.fuel.utils import fobs

from flain_nvflare import Answering, Purify, TrustedClients

CLEAN = backdoored.samples(300, seed=11)
UNTRAINED, FINAL = backdoored.networks()
PARTS, SIZE = split(CLEAN, 3)
NAMES = ["site-1", "site-2", "site-3"]


def flat(network):
    arrays = flain_numpy.arrays_of(network).values()
    return np.concatenate([array.ravel() for array in arrays])


class Clients(WFCommServer):
    """Executes tasks at once, at clients that are reached over NVIDIA FLARE's wire format."""

    def __init__(self, server, executors, tamper):
        super().__init__()
        self.server, self.executors, self.tamper = server, executors, tamper
        self.asked = []

    def broadcast_and_wait(self, task, fl_ctx, targets, min_responses, *_):
        assert min_responses == len(targets)
        for name in targets:
            self.asked.append((name, task.name, task.timeout))
            executor = self.executors.get(name)
            if executor is None:
                continue
            client_task = ClientTask(Client(name, ""), task)
            question = over_the_wire(task.data)
            result = executor.execute(task.name, question, self.server.new_context(), Signal())
            client_task.result = self.tamper(name, over_the_wire(result))
            task.result_received_cb(client_task=client_task, fl_ctx=fl_ctx)


def over_the_wire(shareable):
    return fobs.loads(fobs.dumps(shareable))


class Server(flare_server.Server):
    """Has trained ``FINAL``, and purifies it with what the clients say."""

    def __init__(self, root, purify, *, parts=PARTS, silent=(), tamper=lambda name, result: result):
        flare_decomposers.register()
        common_decomposers.register()
        self.samples = dict(zip(NAMES, parts, strict=False))
        flain_numpy.save(UNTRAINED, root / "network.npz")
        executors = {}
        for name, (x, y) in self.samples.items():
            np.savez(root / f"{name}.npz", x=x, y=y)
            if name not in silent:
                data, model = str(root / f"{name}.npz"), str(root / "network.npz")
                executors[name] = Answering(data=data, model=model, batch_size=SIZE)
        self.clients = Clients(self, executors, tamper)
        purify.model = str(root / "network.npz")
        self.purify = purify
        initial = {"numpy_key": flat(UNTRAINED)}
        rounds = flare_server.Rounds({"numpy_key": flat(FINAL)}, initial=initial)
        super().__init__(root / "server", NPModelPersistor(), rounds, purify)

    def get_clients(self):
        return [Client(name, "") for name in self.samples]

    def run(self, monkeypatch):
        monkeypatch.setattr(flare_server, "WFCommServer", lambda: self.clients)
        return super().run()

    def saved(self):
        return np.load(next(self.run_folder.parent.rglob("server.npy")))


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(clients="all", on_error="raise", trusted=None, **options):
        trusted = TrustedClients(clients, **(trusted or {}))
        server = Server(tmp_path, Purify(data=trusted, on_error=on_error), **options)
        return server.run(monkeypatch)

    return run


def serial(*parts):
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return flain.purify(
        FINAL, initial=UNTRAINED, data=(x, y), batch_size=SIZE, settings=as_elsewhere()
    )


def assert_purified(server, *parts):
    np.testing.assert_allclose(server.saved(), flat(serial(*parts).model), rtol=1e-5)


def test_the_answer_is_that_of_all_samples_in_one_place(run):
    server = run()
    assert server.panics == []
    assert_purified(server, *PARTS)
    assert {task for _, task, _ in server.clients.asked} == {"flain_question"}
    assert len(server.clients.asked) == 5 * len(PARTS)


def test_only_trusted_clients_are_asked(run):
    server = run(["site-1", "site-3"])
    assert {name for name, *_ in server.clients.asked} == {"site-1", "site-3"}
    assert_purified(server, PARTS[0], PARTS[2])


def weights(arrays):
    return DXO(DataKind.APP_DEFINED, data=arrays).to_shareable()


GARBAGE = {
    "infinite": lambda arrays: weights(
        {
            name: np.full_like(each, np.inf) if each.dtype.kind == "f" else each
            for name, each in arrays.items()
        }
    ),
    "of the wrong size": lambda arrays: weights(
        {name: np.concatenate([np.atleast_1d(each)] * 2) for name, each in arrays.items()}
    ),
    "nothing": lambda arrays: weights({}),
    "a list": lambda arrays: weights([1, 2, 3]),
    "text": lambda arrays: weights(dict.fromkeys(arrays, "text")),
    "objects": lambda arrays: weights({name: np.array([object()]) for name in arrays}),
    "no DXO": lambda arrays: make_reply(ReturnCode.OK),
    "a failure": lambda arrays: make_reply(ReturnCode.EXECUTION_EXCEPTION),
    "a code that is none": lambda arrays: make_reply(["\x1b[2J"]),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_client_that_answers_garbage_is_left_out(run, garbage):
    def tamper(name, result):
        return garbage(from_shareable(result).data) if name == "site-2" else result

    with pytest.warns(FlainWarning, match=r"site-2, which holds .* left out.*: [^\x1b]*$"):
        server = run(tamper=tamper)
    assert_purified(server, PARTS[0], PARTS[2])


def test_a_client_that_never_answers_is_asked_twice(run):
    with pytest.warns(FlainWarning, match=r"site-2, .*: no answer came within 13 seconds"):
        server = run(silent=["site-2"], trusted={"timeout": 6.5})
    assert [each for each in server.clients.asked if each[0] == "site-2"] == [
        ("site-2", "flain_question", 7),
        ("site-2", "flain_question", 13),
    ]
    assert_purified(server, PARTS[0], PARTS[2])


def test_a_client_that_is_not_connected_is_left_out(run):
    with pytest.warns(FlainWarning, match="site-9, .*: it is not connected"):
        server = run(["site-1", "site-9", "site-3"])
    assert_purified(server, PARTS[0], PARTS[2])


def test_what_fails_at_a_client_is_told(run):
    parts = [PARTS[0], (np.ones((5, 7), np.float32), np.zeros(5, int)), PARTS[2]]
    with pytest.warns(FlainWarning, match="site-2, .*: it failed: EXECUTION_EXCEPTION, .*shape"):
        server = run(parts=parts)
    assert_purified(server, PARTS[0], PARTS[2])


@pytest.mark.filterwarnings("ignore:.* is left out from now on:flain_core.FlainWarning")
def test_the_trained_model_is_not_lost_where_too_few_answer(run):
    server = run(silent=["site-2", "site-3"], on_error="keep")
    np.testing.assert_array_equal(server.saved(), flat(FINAL))
    assert not (server.run_folder / "purification.json").exists()


@pytest.mark.filterwarnings("ignore:not flipped:flain_core.FlainWarning")
@pytest.mark.parametrize(("merging", "survives"), [("sum", True), ("median", False)])
def test_a_median_outvotes_one_who_lies(run, merging, survives):
    def tamper(name, result):
        arrays = from_shareable(result).data
        return weights(upside_down(arrays)) if name == "site-2" else result

    server = run(tamper=tamper, trusted={"merging": merging})
    purified = in_network(server.saved(), UNTRAINED)
    triggered = LocalScorer(LocalSamples.of(backdoored.triggered(200, seed=12)))
    asr = triggered.score_of(purified).clean.mean
    assert (asr > 0.95) == survives
    assert survives or asr < 0.1


def test_another_task_is_not_answered():
    answering = Answering(data="clean.npz", model="network.npz")
    reply = answering.execute("train", make_reply(ReturnCode.OK), None, Signal())
    assert reply.get_return_code() == ReturnCode.TASK_UNKNOWN


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clients": []}, "names of the trusted clients"),
        ({"clients": ["a", "a"]}, "only once"),
        ({"clients": "site-1"}, '"all"'),
        ({"clients": None}, "names of the trusted clients"),
        ({"clients": ["a"], "merging": "trimmed_mean"}, "at least 3 clients"),
        ({"merging": "medium"}, "median"),
        ({"trim": 0.7}, "trim"),
        ({"least": 0}, "least"),
        ({"timeout": 0}, "timeout"),
        ({"lookahead": 0}, "lookahead"),
    ],
)
def test_options_are_checked_at_once(options, match):
    with pytest.raises(flain.SettingsError, match=match):
        TrustedClients(**{"clients": "all"} | options)


def test_probes_belong_to_who_has_the_samples(tmp_path, monkeypatch):
    purify = Purify(data=TrustedClients("all"), probes={"ASR": "triggered.npz"})
    server = Server(tmp_path, purify).run(monkeypatch)
    assert "no probes, as samples behind a TrustedClients" in server.panics[0]


@pytest.mark.parametrize("settings", [{"flip": "directions"}, {"promise": 0.1}])
def test_what_needs_samples_on_the_server_fails_before_training(settings, tmp_path, monkeypatch):
    purify = Purify(data=TrustedClients("all"), settings=settings)
    server = Server(tmp_path, purify).run(monkeypatch)
    assert "needs samples in this process" in server.panics[0]
    assert server.clients.asked == []
