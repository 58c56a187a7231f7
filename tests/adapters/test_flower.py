"""The Flower strategy, around Flower's own strategies, in this process."""

import copy
import gc
import inspect
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

from flower_strategies import (  # noqa: E402
    FIXED,
    ROUNDS,
    ChangesTheLastRound,
    equal,
    evaluation,
    initial,
    run,
    spoiled,
    wrapped,
)

pytestmark = pytest.mark.usefixtures("flower_alone")


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


@pytest.mark.filterwarnings("ignore:(partly|hardly) flipped:flain_core.FlainWarning")
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


def test_a_generator_of_samples_is_read_once():
    x, y = samples(400, seed=5)
    batches = ((x[at : at + 100], y[at : at + 100]) for at in range(0, 400, 100))
    strategy = wrapped(data=batches)
    assert equal(run(strategy).arrays, run(wrapped()).arrays)


# --- Any strategy -------------------------------------------------------------------------------

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
    strategy = wrapped(STRATEGIES[name](), on_error="keep")
    result = run(strategy, grid=grid, evaluate_fn=evaluation())
    assert grid.sent == plain_grid.sent
    assert len(grid.sent) >= 2 * ROUNDS
    assert equal(strategy.trained_arrays, plain.arrays)
    assert result.train_metrics_clientapp == plain.train_metrics_clientapp
    assert result.evaluate_metrics_clientapp == plain.evaluate_metrics_clientapp
    history = dict(result.evaluate_metrics_serverapp)
    after = history.pop(ROUNDS + 1, None)
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
        assert after is None
        assert "no better than chance" in str(strategy.failure)
    else:
        assert after is not None
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
