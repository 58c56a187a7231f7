"""The Flower strategy, around Flower's own strategies, in this process."""

import copy
import gc
import inspect
import io
import logging
import sys

import numpy as np
import pytest
from backdoored import samples, triggered

import flain_core as flain

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
flower = pytest.importorskip("flwr.serverapp.strategy")
mods = pytest.importorskip("flwr.clientapp.mod")
flain_flower = pytest.importorskip("flain_flower")

pytestmark = pytest.mark.usefixtures("flower_alone")

ROUNDS = 3


def wrapped(strategy=None, **options):
    options = {"model": federation.network(), "data": samples(400, seed=5)} | options
    return flain_flower.Purify(flower.FedAvg() if strategy is None else strategy, **options)


def initial(build=federation.network):
    return records.ArrayRecord(build().state_dict())


def run(strategy, app=None, *, build=federation.network, arrays=None, grid=None, **options):
    federation.reseed()
    grid = grid or federation.Local(app or federation.client_app(build))
    options = {"num_rounds": ROUNDS} | options
    return strategy.start(grid, arrays or initial(build), **options)


def equal(ours, theirs):
    return list(ours) == list(theirs) and all(ours[key] == theirs[key] for key in ours)


class ChangesTheLastRound(flower.FedAvg):
    """Ends with other arrays than it trained."""

    spoil = staticmethod(lambda arrays: arrays)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if server_round == ROUNDS:
            arrays = self.spoil(arrays)
        return arrays, metrics


def spoiled(change):
    strategy = ChangesTheLastRound(fraction_evaluate=0.0)
    strategy.spoil = lambda arrays: records.ArrayRecord(change(dict(arrays)))
    return strategy


def evaluation(build=federation.network, seen=None):
    def evaluate(server_round, arrays):
        acc, asr = federation.measured(build(), arrays)
        if seen is not None:
            seen.append((server_round, arrays))
        return records.MetricRecord({"ACC": acc, "ASR": asr})

    return evaluate


# --- What it does -------------------------------------------------------------------------------


def test_the_backdoor_is_gone_and_the_trained_model_is_kept():
    strategy = wrapped(probes={"ASR": triggered(300, seed=6)})
    seen = []
    result = run(strategy, evaluate_fn=evaluation(seen=seen), num_rounds=4)
    history = result.evaluate_metrics_serverapp
    assert history[4]["ASR"] > 0.7
    assert history[5]["ASR"] < 0.02
    assert history[5]["ACC"] >= history[4]["ACC"] - 0.01
    assert sorted(history) == [0, 1, 2, 3, 4, 5]
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4, 5]
    assert seen[-1][1] is result.arrays
    assert federation.measured(federation.network(), strategy.trained_arrays) == (
        history[4]["ACC"],
        history[4]["ASR"],
    )
    assert strategy.purification.before.probes["ASR"] > 0.7
    assert strategy.purification.after.probes["ASR"] < 0.02
    assert strategy.failure is None


def test_only_the_chosen_layer_changes():
    strategy = wrapped(layers=["2"])
    result = run(strategy)
    changed = [key for key in result.arrays if result.arrays[key] != strategy.trained_arrays[key]]
    assert changed == ["2.weight", "2.bias"]
    assert [layer.name for layer in strategy.purification.layers] == ["2"]


def test_it_has_the_signature_that_flower_calls():
    def parameters(function):
        signature = inspect.signature(function).parameters.values()
        return [(each.name, each.kind, each.default) for each in signature]

    assert parameters(flain_flower.Purify.start) == parameters(flower.Strategy.start)
    assert isinstance(wrapped(), flower.Strategy)


def test_the_options_of_start_reach_the_wrapped_strategy():
    grid = federation.Local(federation.client_app())
    run(
        wrapped(),
        grid=grid,
        timeout=17.0,
        train_config=records.ConfigRecord({"lr": 0.5}),
        evaluate_config=records.ConfigRecord({"batch": 3}),
        num_rounds=1,
    )
    assert set(grid.timeouts) == {17.0}
    assert all(b"lr" in sent for sent in grid.sent[:7])
    assert all(b"batch" in sent for sent in grid.sent[7:])


# --- Any strategy -------------------------------------------------------------------------------

FIXED = {"noise_multiplier": 0.01, "clipping_norm": 5.0, "num_sampled_clients": federation.CLIENTS}
ADAPTIVE = {"noise_multiplier": 0.01, "num_sampled_clients": federation.CLIENTS}
STRATEGIES = {
    "FedAvg": lambda: flower.FedAvg(),
    "FedAvg, half of the clients": lambda: flower.FedAvg(fraction_train=0.5, fraction_evaluate=0.3),
    "Krum": lambda: flower.Krum(num_malicious_nodes=2),
    "MultiKrum": lambda: flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=5),
    "Bulyan": lambda: flower.Bulyan(num_malicious_nodes=1),
    "FedMedian": lambda: flower.FedMedian(),
    "FedTrimmedAvg": lambda: flower.FedTrimmedAvg(beta=0.15),
    "FedAdam": lambda: flower.FedAdam(eta=0.05),
    "DP, fixed on the server": lambda: flower.DifferentialPrivacyServerSideFixedClipping(
        flower.FedAvg(), **FIXED
    ),
    "DP, fixed on the clients": lambda: flower.DifferentialPrivacyClientSideFixedClipping(
        flower.FedAvg(), **FIXED
    ),
    "DP, adaptive on the server": lambda: flower.DifferentialPrivacyServerSideAdaptiveClipping(
        flower.FedAvg(), **ADAPTIVE
    ),
    "DP, adaptive on the clients": lambda: flower.DifferentialPrivacyClientSideAdaptiveClipping(
        flower.FedAvg(), **ADAPTIVE
    ),
}
MODS = {
    "DP, fixed on the clients": [mods.fixedclipping_mod],
    "DP, adaptive on the clients": [mods.adaptiveclipping_mod],
}


@pytest.fixture
def little_garbage():
    """Bulyan collects garbage for every array, which takes long where much is alive."""
    gc.freeze()
    yield
    gc.unfreeze()


# Three rounds are few for some of them, and what they end with may not be much of a model.
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("name", STRATEGIES)
def test_training_is_byte_identical_and_what_comes_out_is_purified(
    name, monkeypatch, little_garbage
):
    stop_the_clock(monkeypatch)
    app = federation.client_app(mods=MODS.get(name, ()))
    plain_grid, grid = federation.Local(app), federation.Local(app)
    plain = run(STRATEGIES[name](), grid=plain_grid, evaluate_fn=evaluation())
    strategy = wrapped(STRATEGIES[name]())
    result = run(strategy, grid=grid, evaluate_fn=evaluation())
    assert grid.sent == plain_grid.sent
    assert len(grid.sent) >= 2 * ROUNDS
    assert equal(strategy.trained_arrays, plain.arrays)
    assert result.train_metrics_clientapp == plain.train_metrics_clientapp
    assert result.evaluate_metrics_clientapp == plain.evaluate_metrics_clientapp
    history = dict(result.evaluate_metrics_serverapp)
    del history[ROUNDS + 1]
    assert history == plain.evaluate_metrics_serverapp

    assert list(result.arrays) == list(plain.arrays)
    for key in plain.arrays:
        assert result.arrays[key].dtype == plain.arrays[key].dtype
        assert result.arrays[key].shape == plain.arrays[key].shape
    changed = [key for key in result.arrays if result.arrays[key] != plain.arrays[key]]
    if name.startswith("DP, adaptive"):
        # Noise leaves a model that is no better than chance, which stays as it is.
        assert strategy.purification.layers[0].stop_reason == "no better than chance"
        assert changed == []
    else:
        assert changed == ["0.weight", "0.bias"]
    again = flain_flower.purify(
        initial(), plain.arrays, model=federation.network(), data=samples(400, seed=5)
    )
    assert equal(again.arrays, result.arrays)


def stop_the_clock(monkeypatch):
    """Messages are stamped with the time."""
    from datetime import datetime, timezone

    noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    # Its module has moved between versions of Flower.
    monkeypatch.setattr(sys.modules[records.Message.__init__.__module__], "now", lambda: noon)


def test_the_sender_of_messages_is_what_flower_makes_it():
    # The grid of these tests sets an internal class of Flower; this fails where that changes.
    pytest.importorskip("flwr.supercore.task_identity", reason="older Flowers need no sender")
    identity, empty = federation.TaskIdentity, records.RecordDict()
    with pytest.raises(RuntimeError, match="not set"):
        records.Message(empty, 1, "train")
    identity.task_id, identity.run_id, identity.node_id = 5, 6, 7
    metadata = records.Message(empty, 1, "train").metadata
    assert (metadata.src_task_id, metadata.run_id, metadata.src_node_id) == (5, 6, 7)


# --- What arrays look like ----------------------------------------------------------------------


def test_counters_that_averaging_made_floats_stay_as_they_are():
    build = federation.normalized_network
    strategy = wrapped(model=build())
    result = run(strategy, build=build)
    trained = strategy.trained_arrays
    assert initial(build)["1.num_batches_tracked"].dtype == "int64"
    assert trained["1.num_batches_tracked"].dtype == "float64"
    changed = [key for key in trained if trained[key] != result.arrays[key]]
    assert changed == ["0.weight", "0.bias"]
    assert federation.measured(build(), trained)[1] > 0.9
    assert federation.measured(build(), result.arrays)[1] < 0.02
    assert strategy.purification.before.clean > 0.9


def test_names_in_another_order_are_matched_by_name():
    strategy = wrapped()
    run(strategy)
    trained = strategy.trained_arrays
    turned = records.ArrayRecord({key: trained[key] for key in reversed(list(trained))})
    model, data = federation.network(), samples(400, seed=5)
    straight = flain_flower.purify(initial(), trained, model=model, data=data)
    other = flain_flower.purify(initial(), turned, model=model, data=data)
    assert list(other.arrays) == list(turned)
    assert all(other.arrays[key] == straight.arrays[key] for key in trained)
    assert straight.arrays["0.weight"] != trained["0.weight"]


def test_a_strategy_that_reorders_the_names_gets_them_back_in_its_order():
    straight = run(wrapped(ChangesTheLastRound(fraction_evaluate=0.0)))
    result = run(wrapped(spoiled(lambda arrays: dict(reversed(arrays.items())))))
    assert list(result.arrays) == ["2.bias", "2.weight", "0.bias", "0.weight"]
    assert all(result.arrays[key] == straight.arrays[key] for key in straight.arrays)


@pytest.mark.parametrize("turned", [False, True])
def test_a_list_of_arrays_is_taken_in_the_order_of_its_numbers(turned):
    # More than ten arrays, so that "10" sorts before "2".
    def build(seed=0):
        from torch import nn

        torch.manual_seed(seed)
        hidden = [layer for _ in range(4) for layer in (nn.Linear(9, 9), nn.ReLU())]
        return nn.Sequential(nn.Linear(12, 9), nn.ReLU(), *hidden, nn.Linear(9, 3))

    (clean_x, clean_y), (bad_x, bad_y) = samples(500, seed=1), triggered(500, seed=2)
    x, y = np.concatenate([clean_x, bad_x]), np.concatenate([clean_y, bad_y])
    module, start = build(), build()
    federation.train(module, torch.from_numpy(x), torch.from_numpy(y), steps=80)
    final, first = (
        [value.detach().numpy() for value in each.state_dict().values()] for each in (module, start)
    )
    record = records.ArrayRecord(final)
    if turned:
        record = records.ArrayRecord({key: record[key] for key in sorted(record)})
    assert len(record) == 12
    purified = flain_flower.purify(
        records.ArrayRecord(first), record, model=build(1), data=samples(400, seed=5)
    )
    expected = flain.purify(module, initial=start, data=samples(400, seed=5))
    assert list(purified.arrays) == list(record)
    for number, value in enumerate(expected.model.state_dict().values()):
        np.testing.assert_array_equal(purified.arrays[str(number)].numpy(), value.numpy())


def test_the_records_and_the_model_that_were_given_stay_as_they_are():
    model, arrays = federation.network(seed=3), initial()
    before = copy.deepcopy(model.state_dict())
    kept = {key: arrays[key].data for key in arrays}
    strategy = wrapped(model=model)
    result = run(strategy, arrays=arrays)
    assert {key: arrays[key].data for key in arrays} == kept
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    trained = {key: strategy.trained_arrays[key].data for key in arrays}
    flain_flower.purify(arrays, strategy.trained_arrays, model=model, data=samples(400, seed=5))
    assert {key: strategy.trained_arrays[key].data for key in arrays} == trained
    assert result.arrays is not strategy.trained_arrays


def test_the_initial_arrays_are_remembered_whatever_training_does_with_them():
    class Overwrites(flower.FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            messages = list(super().configure_train(server_round, arrays, config, grid))
            if server_round == 1:
                self.given = arrays
            return messages

        def aggregate_train(self, server_round, replies):
            arrays, metrics = super().aggregate_train(server_round, replies)
            for key in self.given:
                self.given[key] = arrays[key]
            return arrays, metrics

    strategy, plain = wrapped(Overwrites()), wrapped()
    assert equal(run(strategy).arrays, run(plain).arrays)


# --- What can go wrong --------------------------------------------------------------------------


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


def test_a_generator_of_samples_is_read_once():
    x, y = samples(400, seed=5)
    batches = ((x[at : at + 100], y[at : at + 100]) for at in range(0, 400, 100))
    strategy = wrapped(data=batches)
    assert equal(run(strategy).arrays, run(wrapped()).arrays)
