"""What can go wrong with the Flower strategy: before training, during training, and after it."""

import io
import logging

import numpy as np
import pytest
from backdoored import samples

import flain_core as flain

pytest.importorskip("flwr", reason="flwr is not installed")
pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
flower = pytest.importorskip("flwr.serverapp.strategy")
flain_flower = pytest.importorskip("flain_flower")

from flower_strategies import (  # noqa: E402
    FIXED,
    ROUNDS,
    equal,
    evaluation,
    run,
    spoiled,
    wrapped,
)

pytestmark = pytest.mark.usefixtures("flower_alone")


# --- During training and after it ---------------------------------------------------------------


def without_a_layer(arrays):
    return {key: arrays[key] for key in arrays if key != "2.bias"}


def with_nan(arrays):
    return arrays | {"0.weight": records.Array(np.full((16, 12), np.nan, np.float32))}


def transposed(arrays):
    return arrays | {"0.weight": records.Array(arrays["0.weight"].numpy().T.copy())}


def renamed(arrays):
    return {f"net.{key}" if key == "2.bias" else key: arrays[key] for key in arrays}


def as_a_list(arrays):
    return {str(index): value for index, value in enumerate(arrays.values())}


def pickled(arrays):
    return arrays | {"0.weight": records.Array("float32", (16, 12), "pickle", b"\x80\x04.")}


SPOILED = [without_a_layer, with_nan, transposed, renamed, as_a_list, pickled]


@pytest.mark.parametrize("change", SPOILED)
def test_a_model_that_cannot_be_purified_is_raised_with_the_error(change, caplog):
    strategy = wrapped(spoiled(change))
    caplog.set_level(logging.ERROR, "flwr")
    with pytest.raises(
        flain_flower.PurificationError, match="the trained model was not purified"
    ) as caught:
        run(strategy, evaluate_fn=lambda *_: None)
    assert isinstance(caught.value.__cause__, flain.WeightsError)
    assert strategy.failure is caught.value.__cause__
    assert str(caught.value.__cause__) in str(caught.value)
    assert caught.value.result.arrays is strategy.trained_arrays
    assert len(caught.value.result.arrays) >= 3
    assert len(caught.value.result.train_metrics_clientapp) == ROUNDS
    assert strategy.purification is None
    assert any("not purified" in line for line in caplog.messages)


@pytest.mark.parametrize("change", SPOILED)
def test_a_model_that_cannot_be_purified_is_kept_if_asked(change, caplog):
    strategy = wrapped(spoiled(change), on_error="keep")
    caplog.set_level(logging.ERROR, "flwr")
    result = run(strategy, evaluate_fn=lambda *_: records.MetricRecord({"ACC": 0.5}))
    assert result.arrays is strategy.trained_arrays
    assert isinstance(strategy.failure, flain.WeightsError)
    assert strategy.purification is None
    # The history must not say that there is a purified model.
    assert sorted(result.evaluate_metrics_serverapp) == [0, 1, 2, 3]
    assert any(str(strategy.failure) in line for line in caplog.messages)


@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_no_round_aggregated(on_error):
    strategy = wrapped(on_error=on_error)
    grid = federation.Local(federation.client_app(), failing=range(1, 8))
    if on_error == "raise":
        with pytest.raises(flain_flower.PurificationError, match="no round aggregated") as caught:
            run(strategy, grid=grid)
        result = caught.value.result
    else:
        result = run(strategy, grid=grid)
    assert len(result.arrays) == 0
    assert "no round aggregated" in str(strategy.failure)


def test_clients_that_never_answer_or_fail_are_done_without():
    strategy = wrapped()
    grid = federation.Local(federation.client_app(), silent=[3], failing=[4])
    result = run(strategy, grid=grid, evaluate_fn=evaluation(), num_rounds=4)
    assert result.evaluate_metrics_serverapp[4]["ASR"] > 0.7
    assert result.evaluate_metrics_serverapp[5]["ASR"] < 0.02


def test_an_evaluation_that_fails_does_not_lose_the_purified_model():
    def evaluate(server_round, _):
        if server_round > ROUNDS:
            raise KeyError("no such round in the plan")

    strategy = wrapped()
    with pytest.raises(flain_flower.PurificationError, match="evaluating it failed") as caught:
        run(strategy, evaluate_fn=evaluate)
    assert isinstance(caught.value.__cause__, KeyError)
    assert federation.measured(federation.network(), caught.value.result.arrays)[1] < 0.02
    kept = wrapped(on_error="keep")
    result = run(kept, evaluate_fn=evaluate)
    assert equal(result.arrays, caught.value.result.arrays)
    assert isinstance(kept.failure, KeyError)
    assert kept.purification is not None


def test_an_interrupted_search_leaves_the_trained_model():
    def interrupt(progress):
        if trained:
            raise KeyboardInterrupt

    trained = []

    def evaluate(server_round, _):
        trained.extend([True] if server_round == ROUNDS else [])

    strategy = wrapped(progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(strategy, evaluate_fn=evaluate)
    assert federation.measured(federation.network(), strategy.trained_arrays)[0] > 0.9


def test_a_second_run_forgets_the_first():
    strategy = wrapped(on_error="keep")
    run(strategy)
    assert strategy.purification is not None
    run(strategy, grid=federation.Local(federation.client_app(), failing=range(1, 8)))
    assert strategy.purification is None
    assert len(strategy.trained_arrays) == 0
    run(strategy)
    assert strategy.failure is None
    assert strategy.purification is not None


def test_a_strategy_around_it_is_told_that_nothing_is_purified(caplog):
    outer = flower.DifferentialPrivacyServerSideFixedClipping(wrapped(), **FIXED)
    run(outer, num_rounds=1)
    assert any("purifies nothing" in line for line in caplog.messages)
    caplog.clear()
    run(wrapped(flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), **FIXED)))
    assert not any("purifies nothing" in line for line in caplog.messages)


# --- Bad input fails before training ------------------------------------------------------------


def broken_labels(count=400):
    x, y = samples(count, seed=5)
    return x, y + 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"on_error": "ignore"}, flain.SettingsError, '"raise" or "keep"; got \'ignore\''),
        ({"settings": {"tolerance": 0.1}}, flain.SettingsError, "flain.Settings"),
        ({"data": samples(400, seed=5)[0]}, flain.DataError, "labels are missing"),
        ({"data": "nowhere.npz"}, flain.DataError, "nowhere.npz"),
        ({"data": (np.zeros((0, 12)), np.zeros(0))}, flain.DataError, "at least one sample"),
        ({"probes": {"clean": samples(9, seed=1)}}, flain.SettingsError, "rename that probe"),
        ({"probes": {"ASR": (np.full((9, 12), np.inf), np.zeros(9))}}, flain.DataError, "ASR"),
        ({"batch_size": 0}, flain.SettingsError, "batch_size"),
        ({"score": 3}, flain.SettingsError, "function of"),
        ({"tolerance": 0.1}, TypeError, "'tolerance'"),
        ({"initial": 0}, TypeError, "'initial'"),
        ({"strategy": wrapped()}, flain.SettingsError, "flip the updates back"),
        (
            {"strategy": flower.DifferentialPrivacyServerSideFixedClipping(wrapped(), **FIXED)},
            flain.SettingsError,
            "flip the updates back",
        ),
    ],
)
def test_bad_options_fail_at_once(options, error, words):
    with pytest.raises(error) as caught:
        wrapped(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": None}, flain.ModelError, "expected a model"),
        ({"model": federation.network}, flain.ModelError, "model"),
        ({"model": federation.normalized_network()}, flain.WeightsError, "missing: '3.weight'"),
        ({"layers": "fc1"}, flain.LayerError, "'fc1'"),
        ({"layers": "conv"}, flain.LayerError, "no conv layer"),
        ({"data": broken_labels()}, flain.DataError, "3 classes"),
        ({"data": (np.zeros((9, 11), np.float32), np.zeros(9))}, flain.FlainError, "11"),
        ({"probes": {"ASR": (np.zeros((9, 11), np.float32), np.zeros(9))}}, flain.FlainError, "11"),
        ({"score": lambda scores, y: scores}, flain.DataError, "score"),
        ({"seed": -1}, flain.SettingsError, "seed"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_what_does_not_fit_fails_before_training(options, error, words, on_error):
    strategy = wrapped(on_error=on_error, **options)
    grid = federation.Local(federation.client_app())
    with pytest.raises(error) as caught:
        run(strategy, grid=grid)
    assert words in str(caught.value)
    assert grid.sent == []


def test_an_unknown_option_of_the_plain_call_is_refused_before_anything_is_read():
    with pytest.raises(TypeError, match="'tolerance'"):
        flain_flower.purify(None, None, model=None, data=None, tolerance=0.1)


def damaged(content):
    return records.ArrayRecord({"w": records.Array("float32", (2,), "numpy.ndarray", content)})


def huge():
    """What NumPy reads as the beginning of more numbers than any memory holds."""
    stream = io.BytesIO()
    array = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    "arrays",
    [
        records.ArrayRecord(),
        records.ArrayRecord([np.zeros((3, 3))]),
        records.ArrayRecord({"w": records.Array(np.eye(2))}),
        None,
        {"w": np.eye(2)},
        records.MetricRecord({"w": 1.0}),
        damaged(b"PK\x03\x04junk"),
        damaged(huge()),
    ],
)
def test_initial_arrays_that_do_not_fit_fail_before_training(arrays):
    grid = federation.Local(federation.client_app())
    with pytest.raises(flain.WeightsError):
        wrapped().start(grid, arrays)
    assert grid.sent == []


def test_the_rehearsal_warns_of_nothing_and_trains_nothing(recwarn):
    # Nobody has trained the model yet, so it is no better than chance: that is as it should be.
    seen = []
    run(wrapped(), evaluate_fn=lambda number, _: seen.append(number))
    assert seen == [0, 1, 2, 3, 4]
    assert not recwarn.list


def test_a_strategy_of_the_older_kind_is_told_the_recipe():
    from flwr.server.strategy import FedAvg as LegacyFedAvg

    with pytest.raises(flain.SettingsError, match=r"docs/flower.md"):
        wrapped(LegacyFedAvg())
    with pytest.raises(flain.SettingsError, match="instance"):
        wrapped(flower.FedAvg)
