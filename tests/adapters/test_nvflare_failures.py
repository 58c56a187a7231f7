"""What can go wrong with the NVIDIA FLARE workflow: before training, and after it."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

import flain_core as flain

pytest.importorskip("torch")
pytest.importorskip("nvflare")

from flare_server import LastLook, Rounds, Server
from flare_workflow import (
    CLEAN,
    FINAL,
    INITIAL,
    Net,
    averaged,
    purify,
    saved,
    served,
)
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor

from flain_core import WeightsError
from flain_nvflare import Purify
from flain_nvflare.arguments import read_initial


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


def test_outputs_that_the_model_does_not_have_end_the_job_before_training(disk):
    server = served(disk, Rounds(INITIAL), purify(disk, outputs="probabilities"))
    (panic,) = server.panics
    assert "expected probabilities" in panic


class TestMistakesStopTheJobBeforeTraining:
    def assert_stopped(self, disk, message, start=None, persistor=None, **options):
        rounds = Rounds(averaged(FINAL), initial=start)
        options = {"on_error": "keep"} | options
        server = served(disk, rounds, purify(disk, **options), persistor=persistor)
        assert message in server.panics[0]
        assert not (server.folder / "FL_global_model.pt").exists()

    def test_data_that_is_not_there(self, disk):
        self.assert_stopped(disk, "there is no file", data="/nowhere/clean.npz")

    def test_data_that_does_not_fit(self, disk):
        np.savez(disk / "short.npz", x=CLEAN[0][:, :5], y=CLEAN[1])
        self.assert_stopped(disk, "12", data=str(disk / "short.npz"))

    def test_labels_that_the_model_does_not_know(self, disk):
        np.savez(disk / "labels.npz", x=CLEAN[0], y=CLEAN[1] + 1)
        self.assert_stopped(disk, "label", data=str(disk / "labels.npz"))

    def test_a_probe_that_is_damaged(self, disk):
        (disk / "cut.npz").write_bytes((disk / "clean.npz").read_bytes()[:200])
        self.assert_stopped(disk, "probe 'ASR'", probes={"ASR": str(disk / "cut.npz")})

    def test_a_layer_that_does_not_exist(self, disk):
        self.assert_stopped(disk, "Did you mean 'fc1'?", layers=["fc_1"])

    def test_an_architecture_that_cannot_be_imported(self, disk):
        self.assert_stopped(disk, "cannot import 'no_such_module'", model="no_such_module:Net")

    def test_a_persistor_that_holds_no_model(self, disk):
        persistor = NPModelPersistor(model=[1.0, 2.0])
        self.assert_stopped(disk, "Purify(model=", persistor=persistor)

    def test_a_component_that_is_no_persistor(self, disk):
        self.assert_stopped(disk, "expected 'number' to be the job's", persistor_id="number")

    def test_an_initial_model_that_does_not_fit(self, disk):
        start = {"fc1.weight": INITIAL["fc1.weight"]}
        self.assert_stopped(disk, "missing: 'fc1.bias'", start=start)

    def test_an_initial_file_that_does_not_fit(self, disk):
        np.savez(disk / "initial.npz", weight=np.zeros(3))
        self.assert_stopped(disk, "not in the model", initial=str(disk / "initial.npz"))

    def test_an_initial_file_that_is_damaged(self, disk):
        (disk / "initial.npz").write_bytes(b"PK")
        self.assert_stopped(disk, "cannot read", initial=str(disk / "initial.npz"))

    def test_a_report_that_exists(self, disk):
        (disk / "report.json").touch()
        self.assert_stopped(disk, "it exists already", report=str(disk / "report.json"))


class Silent(Rounds):
    """A workflow that never says what it starts from."""

    def run(self):
        for arrays in self.rounds:
            self.save_model(
                self.update_model(FLModel(ParamsType.FULL, {}), FLModel(self.kind, arrays))
            )


def assert_as_trained(server):
    """The persistor's file holds what training saved, and nothing lies beside it."""
    for name, array in FINAL.items():
        np.testing.assert_array_equal(saved(server.folder / "FL_global_model.pt")[name], array)
    names = {path.name for path in server.folder.iterdir()}
    assert names <= {"custom", "FL_global_model.pt"}
    assert not (server.run_folder / "purification.json").exists()


class TestFailuresAfterTraining:
    """The trained model stays, and the job ends or goes on as was asked."""

    @pytest.fixture(params=["raise", "keep"])
    def on_error(self, request):
        return request.param

    def assert_kept(self, disk, message, rounds, on_error, caplog, **options):
        last = LastLook()
        workflow = purify(disk, on_error=on_error, **options)
        server = served(disk, rounds, workflow, last)
        assert "NOT purified" in caplog.text
        assert message in caplog.text
        if on_error == "raise":
            (reason,) = server.panics
            assert message in reason
        else:
            assert server.panics == []
        assert last.ran == (on_error == "keep")
        return server

    def test_no_round_was_aggregated(self, disk, on_error, caplog):
        server = self.assert_kept(disk, "no round was aggregated", Rounds(), on_error, caplog)
        assert not (server.folder / "FL_global_model.pt").exists()

    def test_an_initial_model_that_nobody_saw(self, disk, on_error, caplog):
        rounds = Silent(averaged(FINAL))
        assert_as_trained(self.assert_kept(disk, "never seen", rounds, on_error, caplog))

    def test_training_that_changed_nothing(self, disk, on_error, caplog):
        server = self.assert_kept(
            disk, "equal weights", Rounds(averaged(INITIAL)), on_error, caplog
        )
        assert not (server.folder / "unpurified_FL_global_model.pt").exists()

    def test_training_that_diverged(self, disk, on_error, caplog):
        broken = averaged(FINAL | {"fc1.bias": np.full(10, np.nan, np.float32)})
        server = self.assert_kept(disk, "'fc1.bias' holds NaN", Rounds(broken), on_error, caplog)
        assert np.isnan(saved(server.folder / "FL_global_model.pt")["fc1.bias"]).all()

    @pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
    def test_samples_with_which_nothing_can_be_flipped(self, disk, on_error, caplog):
        rng = np.random.default_rng(0)
        np.savez(disk / "shuffled.npz", x=CLEAN[0], y=rng.permutation(CLEAN[1]))
        options = {"data": str(disk / "shuffled.npz"), "report": str(disk / "report.json")}
        rounds = Rounds(averaged(FINAL))
        server = self.assert_kept(disk, "not flipped: ", rounds, on_error, caplog, **options)
        assert_as_trained(server)
        assert json.loads((disk / "report.json").read_text())["verdict"] == "not flipped"

    def test_data_that_vanishes_during_training(self, disk, on_error, caplog):
        class Vandal(Rounds):
            def run(self):
                super().run()
                (disk / "clean.npz").unlink()

        rounds = Vandal(averaged(FINAL))
        assert_as_trained(self.assert_kept(disk, "there is no file", rounds, on_error, caplog))

    def test_a_place_that_is_taken_meanwhile(self, disk, on_error, caplog):
        class Squatter(Rounds):
            def run(self):
                super().run()
                self.persistor.get_model_inventory(self.fl_ctx)
                (Path(self.get_app_dir()) / "unpurified_FL_global_model.pt").write_text("mine")

        rounds = Squatter(averaged(FINAL))
        server = self.assert_kept(disk, "it exists already", rounds, on_error, caplog)
        squatted = server.folder / "unpurified_FL_global_model.pt"
        assert squatted.read_text() == "mine"
        squatted.unlink()
        assert_as_trained(server)

    def test_a_persistor_that_cannot_save(self, disk, on_error, caplog, monkeypatch):
        save = PTFileModelPersistor.save_model
        calls = []

        def fail_on_the_second(self, *arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise OSError("the disk is full")
            save(self, *arguments)

        monkeypatch.setattr(PTFileModelPersistor, "save_model", fail_on_the_second)
        rounds = Rounds(averaged(FINAL))
        server = self.assert_kept(disk, "the disk is full", rounds, on_error, caplog)
        (server.folder / "unpurified_FL_global_model.pt").unlink()
        assert_as_trained(server)

    def test_a_job_that_is_aborted_during_the_search(self, disk, on_error, caplog):
        class Late(Signal):
            looks = 0

            @property
            def triggered(self):
                self.looks += 1
                return self.looks > 3  # one in the round, one after it, one as the search begins

        workflow = purify(disk, on_error=on_error)
        server = Server(
            disk / "server", PTFileModelPersistor(model=Net()), Rounds(averaged(FINAL)), workflow
        )
        server.signal = Late()
        server.run()
        assert "aborted" in caplog.text
        assert_as_trained(server)
