"""The NVIDIA FLARE workflow, with real persistors and events, and no network."""

import json

import backdoored
import numpy as np
import pytest

import flain_numpy

torch = pytest.importorskip("torch")
pytest.importorskip("nvflare")

from flare_server import LastLook, Rounds, Server  # noqa: E402
from flare_workflow import (  # noqa: E402
    CLEAN,
    EXPECTED,
    FINAL,
    INITIAL,
    Net,
    assert_purified,
    averaged,
    purify,
    saved,
    served,
)
from nvflare.apis.analytix import AnalyticsData  # noqa: E402
from nvflare.apis.dxo import from_shareable  # noqa: E402
from nvflare.app_common.abstract.fl_model import ParamsType  # noqa: E402
from nvflare.app_common.app_event_type import AppEventType  # noqa: E402
from nvflare.app_common.np.np_model_persistor import NPModelPersistor  # noqa: E402
from nvflare.app_common.widgets.streaming import AnalyticsReceiver  # noqa: E402
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor  # noqa: E402

from flain_nvflare import Purify  # noqa: E402


def test_the_persistor_holds_the_purified_model_and_the_other_lies_beside(disk):
    probes = {"ASR": str(disk / "triggered.npz")}
    server = served(disk, Rounds(INITIAL, averaged(FINAL)), purify(disk, probes=probes))
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
    assert str(disk / "clean.npz") in report["files"]


class Tracks(AnalyticsReceiver):
    """An experiment tracker that keeps what TensorBoard's and MLflow's would write."""

    def initialize(self, fl_ctx):
        self.seen = {}

    def save(self, fl_ctx, shareable, record_origin):
        data = AnalyticsData.from_dxo(from_shareable(shareable))
        self.seen[data.tag] = data.value, data.step, record_origin

    def finalize(self, fl_ctx):
        self.closed = True


def test_before_and_after_reach_the_experiment_tracking(disk):
    persistor, probes = PTFileModelPersistor(model=Net()), {"ASR": str(disk / "triggered.npz")}
    workflow = purify(disk, probes=probes)
    server = Server(disk / "server", persistor, Rounds(averaged(FINAL)), workflow)
    tracks = Tracks()
    server.widgets = (tracks,)
    server.run()
    report = json.loads((server.run_folder / "purification.json").read_text())
    assert tracks.closed
    assert tracks.seen["flain-clean-before"] == (report["before"]["clean"], 0, "server")
    assert tracks.seen["flain-clean-after"][0] == report["after"]["clean"]
    assert tracks.seen["flain-probe-ASR-after"][0] == report["after"]["probes"]["ASR"]
    assert tracks.seen["flain-verdict"][0] == 3
    assert tracks.seen["flain-promise-loss"][0] == report["promise"]["loss"]


def test_a_promise_and_what_the_outputs_are_reach_the_search(disk):
    settings = {"promise": 0.1, "confidence": 0.9}
    given = purify(disk, settings=settings, outputs="logits")
    server = served(disk, Rounds(INITIAL, averaged(FINAL)), given)
    assert server.panics == []
    report = json.loads((server.run_folder / "purification.json").read_text())
    assert (report["settings"]["promise"], report["settings"]["confidence"]) == (0.1, 0.9)
    assert (report["promise"]["loss"], report["promise"]["confidence"]) == (0.1, 0.9)
    assert report["verdict"] == "flipped"


def test_later_workflows_see_the_purified_model(disk):
    last = LastLook()
    served(disk, Rounds(FINAL | {"counter": np.array(1)}), purify(disk), last)
    assert_purified(last.seen)


def test_updates_sent_as_differences_leave_the_initial_model_alone(disk):
    difference = {name: FINAL[name] - INITIAL[name] for name in FINAL} | {"counter": np.array(1)}
    server = served(disk, Rounds(difference, kind=ParamsType.DIFF), purify(disk))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_the_callers_module_is_left_alone(disk):
    module = Net()
    served(
        disk, Rounds(averaged(FINAL)), purify(disk), persistor=PTFileModelPersistor(model=module)
    )
    for name, value in module.state_dict().items():
        if name != "counter":
            np.testing.assert_array_equal(value.numpy(), INITIAL[name])
    assert module.training


def test_tensors_stay_tensors(disk):
    persistor = PTFileModelPersistor(model=Net(), allow_numpy_conversion=False)
    arrays = {name: torch.as_tensor(value) for name, value in averaged(FINAL).items()}
    last = LastLook()
    server = served(disk, Rounds(arrays), purify(disk), last, persistor=persistor)
    assert_purified(saved(server.folder / "FL_global_model.pt"))
    assert {type(value) for value in last.seen.values()} == {torch.Tensor}


def test_a_job_of_a_single_array(disk):
    """NumPy's persistor holds one array, here all parameters one after another."""

    def flat(arrays):
        return np.concatenate([array.ravel() for array in arrays.values()])

    flain_numpy.save(backdoored.networks()[0], disk / "network.npz")
    persistor = NPModelPersistor(model=flat(INITIAL).tolist())
    workflow = purify(disk, model=str(disk / "network.npz"))
    server = served(disk, Rounds({"numpy_key": flat(FINAL)}), workflow, persistor=persistor)
    assert server.panics == []
    held = np.load(server.run_folder / "models" / "server.npy")
    np.testing.assert_allclose(held, flat(EXPECTED.arrays), rtol=1e-5)
    kept = np.load(server.run_folder / "unpurified_model.npz")
    np.testing.assert_array_equal(kept["numpy_key"], flat(FINAL))


def test_a_model_given_as_a_dict_is_taken_from_the_first_task(disk):
    start = {name: array.copy() for name, array in INITIAL.items()} | {"counter": np.array(0)}
    rounds = Rounds(averaged(FINAL), initial=start)
    server = served(disk, rounds, purify(disk))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_a_model_that_was_loaded_before_the_workflow_started(disk):
    """As ScatterAndGather does it."""

    class Early(Rounds):
        def start_controller(self, fl_ctx):
            super().start_controller(fl_ctx)
            self.loaded = super().load_model()

        def load_model(self):
            return self.loaded

    server = served(disk, Early(averaged(FINAL)), purify(disk))
    assert server.panics == []
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_a_workflow_that_only_saves(disk):
    """As FedOpt and cyclic training do it: the context never learns of the trained model."""

    class Quiet(Rounds):
        def update_model(self, model, update):
            return update

    server = served(disk, Quiet(averaged(FINAL)), purify(disk))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_the_best_model_is_named_as_unpurified(disk, caplog):
    class Selecting(Rounds):
        def run(self):
            super().run()
            self.event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE)

    server = served(disk, Selecting(averaged(FINAL)), purify(disk))
    best = server.folder / "best_FL_global_model.pt"
    assert f"{best} was not purified" in caplog.text
    np.testing.assert_array_equal(saved(best)["fc1.weight"], FINAL["fc1.weight"])


def test_what_clients_are_sent_is_the_same_byte_for_byte(disk, tmp_path):
    middle = {name: (INITIAL[name] + FINAL[name]) / 2 for name in FINAL}
    with_it, without = (Rounds(averaged(middle), averaged(FINAL)) for _ in range(2))
    served(disk, with_it, purify(disk))
    Server(tmp_path / "other", PTFileModelPersistor(model=Net()), without).run()
    assert len(with_it.sent) == 2
    assert with_it.sent == without.sent


def test_a_module_may_be_given_as_the_architecture(disk):
    server = served(disk, Rounds(averaged(FINAL)), purify(disk, model=Net()))
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_an_architecture_by_name_is_imported(disk, monkeypatch):
    """A module that comes with the job."""
    module = "from flare_workflow import Net\n\ndef build():\n    return Net()\n"
    (disk / "torch_of_mine.py").write_text(module)
    monkeypatch.syspath_prepend(disk)
    persistor = PTFileModelPersistor(model=Net())
    workflow = purify(disk, model="torch_of_mine:build")
    server = served(disk, Rounds(averaged(FINAL)), workflow, persistor=persistor)
    assert_purified(saved(server.folder / "FL_global_model.pt"))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_the_initial_model_may_be_a_file(disk, suffix):
    """For a job that goes on from an earlier one, and so announces the wrong initial model."""
    path = disk / f"initial{suffix}"
    state = Net().state_dict()
    if suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    elif suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    half = {name: (INITIAL[name] + FINAL[name]) / 2 for name in FINAL} | {"counter": np.array(7)}
    rounds = Rounds(averaged(FINAL), initial=half)
    server = served(disk, rounds, purify(disk, initial=str(path)))
    assert server.panics == []
    assert_purified(saved(server.folder / "FL_global_model.pt"))


def test_relative_paths_start_from_the_apps_custom_folder(disk):
    server = Server(disk / "server", PTFileModelPersistor(model=Net()), Rounds(averaged(FINAL)))
    np.savez(server.custom / "mine.npz", x=CLEAN[0], y=CLEAN[1])
    server.workflows += (Purify(data="mine.npz", report="out.json"),)
    server.run()
    assert_purified(saved(server.folder / "FL_global_model.pt"))
    assert (server.run_folder / "out.json").exists()
