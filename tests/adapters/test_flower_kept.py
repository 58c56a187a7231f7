"""What a Flower run leaves on the disk and tells Flower, and which Flower it needs."""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from backdoored import samples, triggered

import flain_core as flain

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
flower = pytest.importorskip("flwr.serverapp.strategy")
flain_flower = pytest.importorskip("flain_flower")

from flower_strategies import ROUNDS, initial, run, wrapped  # noqa: E402

pytestmark = pytest.mark.usefixtures("flower_alone")


class Diverges(flower.FedAvg):
    """Ends with NaN."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        bad = records.Array(np.full((16, 12), np.nan, np.float32))
        return records.ArrayRecord(dict(arrays) | {"0.weight": bad}), metrics


class Unreadable(flower.FedAvg):
    """Ends with an array in a format of somebody's own."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if server_round == ROUNDS:
            data = arrays["0.weight"].data
            arrays["0.weight"] = records.Array("float32", (16, 12), "mine", data)
        return arrays, metrics


def same(ours, theirs):
    return list(ours) == list(theirs) and all(
        np.array_equal(ours[key].numpy(), theirs[key].numpy(), equal_nan=True) for key in ours
    )


# --- On the disk ---------------------------------------------------------------------------------


def test_the_trained_model_is_on_the_disk_before_the_search_begins(tmp_path):
    seen = []

    def progress(_):
        if trained:
            (folder,) = (tmp_path / "purification").iterdir()
            seen.append(sorted(path.name for path in folder.iterdir()))

    trained = []
    strategy = wrapped(progress=progress)
    run(strategy, evaluate_fn=lambda number, _: trained.extend([1] if number == ROUNDS else []))
    assert seen[0] == ["initial.npz", "trained.npz"]
    folder = strategy.folder
    assert folder.parent == tmp_path / "purification"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("initial.npz", "purified.npz", "report.json", "trained.npz")
    ]


@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_a_model_that_cannot_be_purified_lies_where_the_message_says(on_error, tmp_path, caplog):
    caplog.set_level(logging.INFO, "flwr")
    strategy = wrapped(Diverges(fraction_evaluate=0), on_error=on_error, folder=tmp_path / "mine")
    if on_error == "raise":
        with pytest.raises(flain_flower.PurificationError) as caught:
            run(strategy, num_rounds=1)
        assert caught.value.folder == strategy.folder
        assert f"The trained model is in {strategy.folder / 'trained.npz'}" in str(caught.value)
    else:
        run(strategy, num_rounds=1)
    assert strategy.folder.parent == tmp_path / "mine"
    assert f"not purified, is in {strategy.folder / 'trained.npz'}" in caplog.text
    assert same(flain_flower.load_arrays(strategy.folder / "trained.npz"), strategy.trained_arrays)


def test_what_was_kept_can_be_purified_later():
    strategy = wrapped()
    result = run(strategy)
    first, last, purified = (
        flain_flower.load_arrays(strategy.folder / f"{name}.npz")
        for name in ("initial", "trained", "purified")
    )
    assert same(first, initial())
    assert same(purified, result.arrays)
    again = flain_flower.purify(first, last, model=federation.network(), data=samples(400, seed=5))
    assert same(again.arrays, result.arrays)
    report = json.loads((strategy.folder / "report.json").read_text())
    assert report["verdict"] == strategy.purification.verdict


def test_not_even_arrays_that_nobody_can_read_are_lost():
    strategy = wrapped(Unreadable(fraction_evaluate=0))
    with pytest.raises(flain_flower.PurificationError, match="cannot be read"):
        run(strategy)
    kept = flain_flower.load_arrays(strategy.folder / "trained.npz")
    assert kept["0.weight"].numpy().shape == (16, 12)


def test_a_second_run_leaves_the_first_ones_files_alone():
    strategy = wrapped()
    run(strategy)
    folder, before = strategy.folder, (strategy.folder / "purified.npz").read_bytes()
    run(strategy)
    assert strategy.folder != folder
    assert (folder / "purified.npz").read_bytes() == before


def test_a_folder_that_cannot_be_made_fails_before_training(tmp_path):
    (tmp_path / "file").touch()
    grid = federation.Local(federation.client_app())
    with pytest.raises(flain.OutputError, match=r"Purify\(folder=...\)"):
        run(wrapped(folder=tmp_path / "file"), grid=grid)
    assert grid.sent == []


def test_where_the_usual_folder_cannot_be_made_there_is_another(tmp_path, monkeypatch):
    (tmp_path / "purification").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    strategy = wrapped()
    run(strategy)
    assert strategy.folder.parent == tmp_path / "elsewhere" / "flain-purification"
    assert (strategy.folder / "trained.npz").exists()


def loses_its_folder(strategy):
    def evaluate(server_round, _):
        if server_round == ROUNDS:
            shutil.rmtree(strategy.folder)

    return evaluate


def test_a_folder_that_is_gone_after_training_is_made_up_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caplog.set_level(logging.INFO, "flwr")
    strategy = wrapped()
    run(strategy, evaluate_fn=loses_its_folder(strategy))
    (kept,) = (tmp_path / "flain-purification").glob("*/trained.npz")
    assert str(kept) in caplog.text
    assert same(flain_flower.load_arrays(kept), strategy.trained_arrays)
    assert strategy.failure is None
    assert strategy.folder == kept.parent
    files = {each.name for each in kept.parent.iterdir()}
    assert files == {"trained.npz", "purified.npz", "report.json"}


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_a_model_of_which_nothing_was_flipped_is_not_called_purified(on_error, caplog):
    caplog.set_level(logging.INFO, "flwr")
    x, y = samples(400, seed=5)
    strategy = wrapped(data=(x, np.random.default_rng(0).permutation(y)), on_error=on_error)
    if on_error == "raise":
        with pytest.raises(flain_flower.PurificationError, match="not purified: not flipped: "):
            run(strategy)
    else:
        assert run(strategy).arrays is strategy.trained_arrays
    assert "not flipped" in str(strategy.failure)
    assert strategy.purification.verdict == "not flipped"
    assert "purified model" not in caplog.text
    files = {each.name for each in strategy.folder.iterdir()}
    assert files == {"initial.npz", "trained.npz", "report.json"}


def test_a_model_that_can_be_written_nowhere_is_returned(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    strategy = wrapped(Diverges(fraction_evaluate=0))
    result = run(strategy, evaluate_fn=loses_its_folder(strategy))
    assert result.arrays is strategy.trained_arrays
    assert isinstance(strategy.failure, flain.WeightsError)
    assert "in memory only" in caplog.text
    assert 'not raising although on_error="raise"' in caplog.text


class Ends(flower.FedAvg):
    """Ends with anything."""

    last = None

    def start(self, **options):
        result = super().start(**options)
        result.arrays = self.last
        return result


def ending(last):
    strategy = Ends(fraction_evaluate=0.0)
    strategy.last = last
    return strategy


WEIGHTS = federation.network().state_dict()


@pytest.mark.parametrize("on_error", ["raise", "keep"])
@pytest.mark.parametrize(
    "last",
    [
        WEIGHTS,
        {name: np.asfortranarray(each.numpy()) for name, each in WEIGHTS.items()},
        [each.numpy() for each in WEIGHTS.values()],
    ],
    ids=["tensors", "arrays", "a list"],
)
def test_what_another_strategy_returns_in_place_of_a_record_is_kept_too(last, on_error):
    strategy = wrapped(ending(last), on_error=on_error)
    if on_error == "raise":
        with pytest.raises(flain_flower.PurificationError, match=r"trained\.npz"):
            run(strategy, num_rounds=1)
    else:
        assert run(strategy, num_rounds=1).arrays is last
    assert isinstance(strategy.failure, flain.WeightsError)
    kept = flain_flower.load_arrays(strategy.folder / "trained.npz")
    values = last.values() if isinstance(last, dict) else last
    for array, given in zip(kept.values(), values, strict=True):
        np.testing.assert_array_equal(array.numpy(), given)


@pytest.mark.parametrize("on_error", ["raise", "keep"])
@pytest.mark.parametrize(
    "last", [np.ones(3), {"x" * 70_000: np.ones(2)}, {"\ud800": np.ones(2)}, 3]
)
def test_what_can_be_written_nowhere_is_returned(last, on_error, caplog):
    strategy = wrapped(ending(last), on_error=on_error)
    assert run(strategy, num_rounds=1).arrays is last
    assert isinstance(strategy.failure, flain.WeightsError)
    assert "in memory only" in caplog.text


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"PK", lambda data: b""])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = tmp_path / "trained.npz"
    strategy = wrapped()
    run(strategy, num_rounds=1)
    path.write_bytes(damage((strategy.folder / "trained.npz").read_bytes()))
    with pytest.raises(flain.WeightsError, match=r"trained\.npz"):
        flain_flower.load_arrays(path)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(flain.WeightsError, match=r"expected the path of a file.*got None"):
        flain_flower.load_arrays(None)
    with pytest.raises(flain.WeightsError, match="expected a regular file"):
        flain_flower.load_arrays(tmp_path)


@pytest.mark.parametrize("options", [{"folder": ""}, {"folder": 5}, {"enabled": 1}])
def test_options_are_checked_at_once(options):
    with pytest.raises(flain.SettingsError, match=next(iter(options))):
        wrapped(**options)


# --- Told to Flower ------------------------------------------------------------------------------


def test_before_after_promise_and_verdict_are_in_the_results(caplog):
    caplog.set_level(logging.INFO, "flwr")
    strategy = wrapped(probes={"ASR": triggered(300, seed=6)})
    result = run(strategy, num_rounds=4, evaluate_fn=lambda *_: records.MetricRecord({"ACC": 0.75}))
    metrics, done = strategy.metrics, strategy.purification
    assert result.evaluate_metrics_serverapp[5] == records.MetricRecord({"ACC": 0.75, **metrics})
    assert metrics["flain-clean-before"] == done.before.clean
    assert metrics["flain-probe-ASR-before"] == done.before.probes["ASR"] > 0.7
    assert metrics["flain-probe-ASR-after"] == done.after.probes["ASR"] < 0.02
    assert metrics["flain-verdict"] == 3
    assert metrics["flain-promise-loss"] == done.promise.loss
    assert metrics["flain-promise-confidence"] == 0.95
    final = caplog.text.split("Final results, of the purified model:")[1]
    assert f"'flain-probe-ASR-after': '{metrics['flain-probe-ASR-after']:.4e}'" in final


def test_they_are_there_without_an_evaluation_too():
    strategy = wrapped()
    result = run(strategy)
    assert result.evaluate_metrics_serverapp == {ROUNDS + 1: strategy.metrics}


def test_notes_and_warnings_are_logged_once(caplog, recwarn):
    caplog.set_level(logging.INFO, "flwr")
    few = samples(60, seed=5)
    strategy = wrapped(data=few)
    run(strategy)
    assert not [each for each in recwarn if issubclass(each.category, flain.FlainWarning)]
    notes = strategy.purification.notes
    assert len(notes) >= 2
    for note in notes:
        assert caplog.messages.count(f"FLAIN: {note}") == 1
    serious = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert any("too few to steer the search" in message for message in serious)


def test_filters_keep_their_say(caplog):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", flain.FlainWarning)
        strategy = wrapped(data=samples(60, seed=5), on_error="keep")
        run(strategy)
    assert isinstance(strategy.failure, flain.FlainWarning)


# --- Flower itself -------------------------------------------------------------------------------


def test_a_flower_that_is_too_old_is_named_with_the_remedy(tmp_path):
    there = tmp_path / "flwr-1.20.0.dist-info"
    there.mkdir()
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 1.20.0\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import flain_flower"
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=tmp_path
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: flain_flower needs Flower 1.27 or newer; flwr 1.20.0 is installed: "
        "pip install -U 'flwr>=1.27'"
    )


def test_the_floor_is_the_one_that_the_package_asks_for():
    from flain_flower.floor import FLOOR

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'flower = ["flwr>={FLOOR[0]}.{FLOOR[1]}"]' in text
