"""The NVIDIA FLARE workflow, with real persistors and events, and no network."""

import io
import json
import re
import sys
import zipfile
from pathlib import Path

import backdoored
import numpy as np
import pytest

import flain_core as flain
import flain_numpy
from flain_numpy import arrays_of

torch = pytest.importorskip("torch")
pytest.importorskip("nvflare")

from flare_server import LastLook, Rounds, Server  # noqa: E402
from nvflare.apis.analytix import AnalyticsData  # noqa: E402
from nvflare.apis.dxo import from_shareable  # noqa: E402
from nvflare.apis.signal import Signal  # noqa: E402
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType  # noqa: E402
from nvflare.app_common.app_event_type import AppEventType  # noqa: E402
from nvflare.app_common.np.np_model_persistor import NPModelPersistor  # noqa: E402
from nvflare.app_common.widgets.streaming import AnalyticsReceiver  # noqa: E402
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor  # noqa: E402

from flain_core import WeightsError  # noqa: E402
from flain_nvflare import Purify  # noqa: E402
from flain_nvflare.arguments import read_initial  # noqa: E402

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)
INITIAL, FINAL = map(arrays_of, backdoored.networks())
EXPECTED = flain.purify_arrays(INITIAL, FINAL, backdoored.networks()[0], data=CLEAN)


class Net(torch.nn.Module):
    """12 → 10 → 7 → 3, with the names of the NumPy network, and a counter as batch norm has."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(12, 10), torch.nn.Linear(10, 7)
        self.fc3 = torch.nn.Linear(7, 3)
        self.register_buffer("counter", torch.tensor(0))
        given = {name: torch.from_numpy(array) for name, array in INITIAL.items()}
        self.load_state_dict(given, strict=False)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def averaged(arrays):
    """As an average comes: in another order, the counter as a float."""
    return {"counter": np.float64(2.5)} | dict(reversed(arrays.items()))


@pytest.fixture
def files(tmp_path):
    x, y = CLEAN
    np.savez(tmp_path / "clean.npz", x=x, y=y)
    x, y = TRIGGERED
    np.savez(tmp_path / "triggered.npz", x=x, y=y)
    return tmp_path


def purify(files, **options):
    return Purify(**{"data": str(files / "clean.npz")} | options)


def served(files, *workflows, persistor=None):
    persistor = PTFileModelPersistor(model=Net()) if persistor is None else persistor
    return Server(files / "server", persistor, *workflows).run()


def saved(path):
    return {name: value.numpy() for name, value in torch.load(path)["model"].items()}


def assert_purified(arrays):
    for name, array in EXPECTED.arrays.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-5, atol=1e-7)


def assert_as_trained(server):
    """The persistor's file holds what training saved, and nothing lies beside it."""
    for name, array in FINAL.items():
        np.testing.assert_array_equal(saved(server.folder / "FL_global_model.pt")[name], array)
    names = {path.name for path in server.folder.iterdir()}
    assert names <= {"custom", "FL_global_model.pt"}
    assert not (server.run_folder / "purification.json").exists()


def test_the_persistor_holds_the_purified_model_and_the_other_lies_beside(files):
    probes = {"ASR": str(files / "triggered.npz")}
    server = served(files, Rounds(INITIAL, averaged(FINAL)), purify(files, probes=probes))
    assert server.panics == []
    purified = saved(server.folder / "FL_global_model.pt")
    assert_purified(purified)
    unpurified = saved(server.folder / "unpurified_FL_global_model.pt")
    for name, array in averaged(FINAL).items():
        np.testing.assert_array_equal(unpurified[name], array)
    assert list(purified) == list(unpurified)
    assert purified["counter"].dtype == np.float64
    assert purified["counter"] == 2.5
    report = json.loads((server.run_folder / "purification.json").read_text())
    assert report["before"]["probes"]["ASR"] > 0.99
    assert report["after"]["probes"]["ASR"] < 0.1
    assert str(files / "clean.npz") in report["files"]


class Tracks(AnalyticsReceiver):
    """An experiment tracker that keeps what TensorBoard's and MLflow's would write."""

    def initialize(self, fl_ctx):
        self.seen = {}

    def save(self, fl_ctx, shareable, record_origin):
        data = AnalyticsData.from_dxo(from_shareable(shareable))
        self.seen[data.tag] = data.value, data.step, record_origin

    def finalize(self, fl_ctx):
        self.closed = True


def test_before_and_after_reach_the_experiment_tracking(files):
    persistor, probes = PTFileModelPersistor(model=Net()), {"ASR": str(files / "triggered.npz")}
    workflow = purify(files, probes=probes)
    server = Server(files / "server", persistor, Rounds(averaged(FINAL)), workflow)
    tracks = Tracks()
    server.widgets = (tracks,)
    server.run()
    report = json.loads((server.run_folder / "purification.json").read_text())
    assert tracks.closed
    assert tracks.seen["flain-clean-before"] == (report["before"]["clean"], 0, "server")
    assert tracks.seen["flain-clean-after"][0] == report["after"]["clean"]
    assert tracks.seen["flain-probe-ASR-after"][0] == report["after"]["probes"]["ASR"]
    assert tracks.seen["flain-verdict"][0] == 2
    assert tracks.seen["flain-promise-loss"][0] == report["promise"]["loss"]


def test_a_promise_and_what_the_outputs_are_reach_the_search(files):
    settings = {"promise": 0.1, "confidence": 0.9}
    given = purify(files, settings=settings, outputs="logits")
    server = served(files, Rounds(INITIAL, averaged(FINAL)), given)
    assert server.panics == []
    report = json.loads((server.run_folder / "purification.json").read_text())
    assert (report["settings"]["promise"], report["settings"]["confidence"]) == (0.1, 0.9)
    assert (report["promise"]["loss"], report["promise"]["confidence"]) == (0.1, 0.9)
    assert report["verdict"] == "flipped"


def test_outputs_that_the_model_does_not_have_end_the_job_before_training(files):
    server = served(files, Rounds(INITIAL), purify(files, outputs="probabilities"))
    (panic,) = server.panics
    assert "expected probabilities" in panic


def test_later_workflows_see_the_purified_model(files):
    last = LastLook()
    served(files, Rounds(FINAL | {"counter": np.array(1)}), purify(files), last)
    assert_purified(last.seen)


def test_updates_sent_as_differences_leave_the_initial_model_alone(files):
    difference = {name: FINAL[name] - INITIAL[name] for name in FINAL} | {"counter": np.array(1)}
    server = served(files, Rounds(difference, kind=ParamsType.DIFF), purify(files))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_the_callers_module_is_left_alone(files):
    module = Net()
    served(
        files, Rounds(averaged(FINAL)), purify(files), persistor=PTFileModelPersistor(model=module)
    )
    for name, value in module.state_dict().items():
        if name != "counter":
            np.testing.assert_array_equal(value.numpy(), INITIAL[name])
    assert module.training


def test_tensors_stay_tensors(files):
    persistor = PTFileModelPersistor(model=Net(), allow_numpy_conversion=False)
    arrays = {name: torch.as_tensor(value) for name, value in averaged(FINAL).items()}
    last = LastLook()
    server = served(files, Rounds(arrays), purify(files), last, persistor=persistor)
    assert_purified(saved(server.folder / "FL_global_model.pt"))
    assert {type(value) for value in last.seen.values()} == {torch.Tensor}


def test_a_job_of_a_single_array(files):
    """NumPy's persistor holds one array, here all parameters one after another."""

    def flat(arrays):
        return np.concatenate([array.ravel() for array in arrays.values()])

    flain_numpy.save(backdoored.networks()[0], files / "network.npz")
    persistor = NPModelPersistor(model=flat(INITIAL).tolist())
    workflow = purify(files, model=str(files / "network.npz"))
    server = served(files, Rounds({"numpy_key": flat(FINAL)}), workflow, persistor=persistor)
    assert server.panics == []
    held = np.load(server.run_folder / "models" / "server.npy")
    np.testing.assert_allclose(held, flat(EXPECTED.arrays), rtol=1e-5)
    kept = np.load(server.run_folder / "unpurified_model.npz")
    np.testing.assert_array_equal(kept["numpy_key"], flat(FINAL))


def test_a_model_given_as_a_dict_is_taken_from_the_first_task(files):
    start = {name: array.copy() for name, array in INITIAL.items()} | {"counter": np.array(0)}
    rounds = Rounds(averaged(FINAL), initial=start)
    server = served(files, rounds, purify(files))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_a_model_that_was_loaded_before_the_workflow_started(files):
    """As ScatterAndGather does it."""

    class Early(Rounds):
        def start_controller(self, fl_ctx):
            super().start_controller(fl_ctx)
            self.loaded = super().load_model()

        def load_model(self):
            return self.loaded

    server = served(files, Early(averaged(FINAL)), purify(files))
    assert server.panics == []
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_a_workflow_that_only_saves(files):
    """As FedOpt and cyclic training do it: the context never learns of the trained model."""

    class Quiet(Rounds):
        def update_model(self, model, update):
            return update

    server = served(files, Quiet(averaged(FINAL)), purify(files))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_the_best_model_is_named_as_unpurified(files, caplog):
    class Selecting(Rounds):
        def run(self):
            super().run()
            self.event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE)

    server = served(files, Selecting(averaged(FINAL)), purify(files))
    best = server.folder / "best_FL_global_model.pt"
    assert f"{best} was not purified" in caplog.text
    np.testing.assert_array_equal(saved(best)["fc1.weight"], FINAL["fc1.weight"])


def test_what_clients_are_sent_is_the_same_byte_for_byte(files, tmp_path):
    middle = {name: (INITIAL[name] + FINAL[name]) / 2 for name in FINAL}
    with_it, without = (Rounds(averaged(middle), averaged(FINAL)) for _ in range(2))
    served(files, with_it, purify(files))
    Server(tmp_path / "other", PTFileModelPersistor(model=Net()), without).run()
    assert len(with_it.sent) == 2
    assert with_it.sent == without.sent


def test_a_module_may_be_given_as_the_architecture(files):
    server = served(files, Rounds(averaged(FINAL)), purify(files, model=Net()))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_an_architecture_by_name_is_imported(files, monkeypatch):
    """A module that comes with the job."""
    module = "from torch_of_mine_base import Net\n\ndef build():\n    return Net()\n"
    monkeypatch.setitem(sys.modules, "torch_of_mine_base", sys.modules[Net.__module__])
    (files / "torch_of_mine.py").write_text(module)
    monkeypatch.syspath_prepend(files)
    persistor = PTFileModelPersistor(model=Net())
    workflow = purify(files, model="torch_of_mine:build")
    server = served(files, Rounds(averaged(FINAL)), workflow, persistor=persistor)
    assert_purified(saved(server.folder / "FL_global_model.pt"))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_the_initial_model_may_be_a_file(files, suffix):
    """For a job that goes on from an earlier one, and so announces the wrong initial model."""
    path = files / f"initial{suffix}"
    state = Net().state_dict()
    if suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    elif suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    half = {name: (INITIAL[name] + FINAL[name]) / 2 for name in FINAL} | {"counter": np.array(7)}
    rounds = Rounds(averaged(FINAL), initial=half)
    server = served(files, rounds, purify(files, initial=str(path)))
    assert server.panics == []
    assert_purified(saved(server.folder / "FL_global_model.pt"))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_initial_model_that_declares_more_than_it_holds(tmp_path, suffix):
    stream = io.BytesIO()
    np.save(stream, np.zeros(7))
    content = stream.getvalue().replace(b"(7,)", b"(7" + b"0" * 13 + b",)", 1)
    content = content.replace(b" " * 13 + b"\n", b"\n", 1)
    path = tmp_path / f"initial{suffix}"
    path.write_bytes(content)
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weight.npy", content)
    with pytest.raises(WeightsError, match="does not hold as many numbers") as caught:
        read_initial(path, None)
    assert not isinstance(caught.value.__cause__, MemoryError)


def test_relative_paths_start_from_the_apps_custom_folder(files):
    server = Server(files / "server", PTFileModelPersistor(model=Net()), Rounds(averaged(FINAL)))
    np.savez(server.custom / "mine.npz", x=CLEAN[0], y=CLEAN[1])
    server.workflows += (Purify(data="mine.npz", report="out.json"),)
    server.run()
    assert_purified(saved(server.folder / "FL_global_model.pt"))
    assert (server.run_folder / "out.json").exists()


class TestMistakesStopTheJobBeforeTraining:
    def assert_stopped(self, files, message, start=None, persistor=None, **options):
        rounds = Rounds(averaged(FINAL), initial=start)
        options = {"on_error": "keep"} | options
        server = served(files, rounds, purify(files, **options), persistor=persistor)
        assert message in server.panics[0]
        assert not (server.folder / "FL_global_model.pt").exists()

    def test_data_that_is_not_there(self, files):
        self.assert_stopped(files, "there is no file", data="/nowhere/clean.npz")

    def test_data_that_does_not_fit(self, files):
        np.savez(files / "short.npz", x=CLEAN[0][:, :5], y=CLEAN[1])
        self.assert_stopped(files, "12", data=str(files / "short.npz"))

    def test_labels_that_the_model_does_not_know(self, files):
        np.savez(files / "labels.npz", x=CLEAN[0], y=CLEAN[1] + 1)
        self.assert_stopped(files, "label", data=str(files / "labels.npz"))

    def test_a_probe_that_is_damaged(self, files):
        (files / "cut.npz").write_bytes((files / "clean.npz").read_bytes()[:200])
        self.assert_stopped(files, "probe 'ASR'", probes={"ASR": str(files / "cut.npz")})

    def test_a_layer_that_does_not_exist(self, files):
        self.assert_stopped(files, "Did you mean 'fc1'?", layers=["fc_1"])

    def test_an_architecture_that_cannot_be_imported(self, files):
        self.assert_stopped(files, "cannot import 'no_such_module'", model="no_such_module:Net")

    def test_a_persistor_that_holds_no_model(self, files):
        persistor = NPModelPersistor(model=[1.0, 2.0])
        self.assert_stopped(files, "Purify(model=", persistor=persistor)

    def test_a_component_that_is_no_persistor(self, files):
        self.assert_stopped(files, "expected 'number' to be the job's", persistor_id="number")

    def test_an_initial_model_that_does_not_fit(self, files):
        start = {"fc1.weight": INITIAL["fc1.weight"]}
        self.assert_stopped(files, "missing: 'fc1.bias'", start=start)

    def test_an_initial_file_that_does_not_fit(self, files):
        np.savez(files / "initial.npz", weight=np.zeros(3))
        self.assert_stopped(files, "not in the model", initial=str(files / "initial.npz"))

    def test_an_initial_file_that_is_damaged(self, files):
        (files / "initial.npz").write_bytes(b"PK")
        self.assert_stopped(files, "cannot read", initial=str(files / "initial.npz"))

    def test_a_report_that_exists(self, files):
        (files / "report.json").touch()
        self.assert_stopped(files, "it exists already", report=str(files / "report.json"))


class Silent(Rounds):
    """A workflow that never says what it starts from."""

    def run(self):
        for arrays in self.rounds:
            self.save_model(
                self.update_model(FLModel(ParamsType.FULL, {}), FLModel(self.kind, arrays))
            )


class TestFailuresAfterTraining:
    """The trained model stays, and the job ends or goes on as was asked."""

    @pytest.fixture(params=["raise", "keep"])
    def on_error(self, request):
        return request.param

    def assert_kept(self, files, message, rounds, on_error, caplog, **options):
        last = LastLook()
        workflow = purify(files, on_error=on_error, **options)
        server = served(files, rounds, workflow, last)
        assert "NOT purified" in caplog.text
        assert message in caplog.text
        if on_error == "raise":
            (reason,) = server.panics
            assert message in reason
        else:
            assert server.panics == []
        assert last.ran == (on_error == "keep")
        return server

    def test_no_round_was_aggregated(self, files, on_error, caplog):
        server = self.assert_kept(files, "no round was aggregated", Rounds(), on_error, caplog)
        assert not (server.folder / "FL_global_model.pt").exists()

    def test_an_initial_model_that_nobody_saw(self, files, on_error, caplog):
        rounds = Silent(averaged(FINAL))
        assert_as_trained(self.assert_kept(files, "never seen", rounds, on_error, caplog))

    def test_training_that_changed_nothing(self, files, on_error, caplog):
        server = self.assert_kept(
            files, "equal weights", Rounds(averaged(INITIAL)), on_error, caplog
        )
        assert not (server.folder / "unpurified_FL_global_model.pt").exists()

    def test_training_that_diverged(self, files, on_error, caplog):
        broken = averaged(FINAL | {"fc1.bias": np.full(10, np.nan, np.float32)})
        server = self.assert_kept(files, "'fc1.bias' holds NaN", Rounds(broken), on_error, caplog)
        assert np.isnan(saved(server.folder / "FL_global_model.pt")["fc1.bias"]).all()

    def test_data_that_vanishes_during_training(self, files, on_error, caplog):
        class Vandal(Rounds):
            def run(self):
                super().run()
                (files / "clean.npz").unlink()

        rounds = Vandal(averaged(FINAL))
        assert_as_trained(self.assert_kept(files, "there is no file", rounds, on_error, caplog))

    def test_a_place_that_is_taken_meanwhile(self, files, on_error, caplog):
        class Squatter(Rounds):
            def run(self):
                super().run()
                self.persistor.get_model_inventory(self.fl_ctx)
                (Path(self.get_app_dir()) / "unpurified_FL_global_model.pt").write_text("mine")

        rounds = Squatter(averaged(FINAL))
        server = self.assert_kept(files, "it exists already", rounds, on_error, caplog)
        squatted = server.folder / "unpurified_FL_global_model.pt"
        assert squatted.read_text() == "mine"
        squatted.unlink()
        assert_as_trained(server)

    def test_a_persistor_that_cannot_save(self, files, on_error, caplog, monkeypatch):
        save = PTFileModelPersistor.save_model
        calls = []

        def fail_on_the_second(self, *arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise OSError("the disk is full")
            save(self, *arguments)

        monkeypatch.setattr(PTFileModelPersistor, "save_model", fail_on_the_second)
        rounds = Rounds(averaged(FINAL))
        server = self.assert_kept(files, "the disk is full", rounds, on_error, caplog)
        (server.folder / "unpurified_FL_global_model.pt").unlink()
        assert_as_trained(server)

    def test_a_job_that_is_aborted_during_the_search(self, files, on_error, caplog):
        class Late(Signal):
            looks = 0

            @property
            def triggered(self):
                self.looks += 1
                return self.looks > 3  # one in the round, one after it, one as the search begins

        workflow = purify(files, on_error=on_error)
        server = Server(
            files / "server", PTFileModelPersistor(model=Net()), Rounds(averaged(FINAL)), workflow
        )
        server.signal = Late()
        server.run()
        assert "aborted" in caplog.text
        assert_as_trained(server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"tolerence": 0.1}}, "Did you mean 'tolerance'?"),
        ({"settings": {"tolerance": 5}}, "from 0 to 1"),
        ({"settings": "mnist"}, "dict of their values"),
        ({"settings": {"thresholds": {"start": 0.1}}}, "incomplete"),
        ({"settings": {"promise": 0.01, "measure": "score"}}, "held back"),
        ({"outputs": "scores"}, "'probabilities'"),
        ({"on_error": "ignore"}, "on_error"),
        ({"data": None}, "expected data to be the path"),
        ({"layers": 5}, "expected layers to be"),
        ({"probes": ["a.npz"]}, "expected probes to be a dict"),
        ({"probes": {"ASR": 5}}, "expected probe 'ASR' to be the path"),
    ],
)
def test_arguments_are_checked_where_the_job_is_written(options, message):
    with pytest.raises(flain.SettingsError, match=re.escape(message)):
        Purify(**{"data": "clean.npz"} | options)
