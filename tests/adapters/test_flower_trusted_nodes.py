"""Clean samples at trusted nodes, through Flower's query messages, in this process."""

import backdoored
import numpy as np
import pytest
from in_process import split

import flain_core as flain
import flain_numpy

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
clientapp = pytest.importorskip("flwr.clientapp")
flain_flower = pytest.importorskip("flain_flower")
flower = pytest.importorskip("flwr.serverapp.strategy")

from flower_trusted_nodes import (  # noqa: E402
    CLEAN,
    FINAL,
    PARTS,
    UNTRAINED,
    Fallible,
    Nodes,
    assert_same,
    client_app,
    node_asked,
    nodes_asked,
    purify,
    serial,
)

pytestmark = pytest.mark.usefixtures("flower_alone")


def test_the_answer_is_that_of_all_samples_in_one_place():
    assert_same(purify(Nodes()), serial(*PARTS))


def test_only_trusted_nodes_are_asked():
    grid = Nodes()
    assert_same(purify(grid, [1, 3]), serial(PARTS[0], PARTS[2]))
    assert set(nodes_asked(grid)) == {1, 3}


def test_a_search_takes_a_handful_of_messages():
    grid = Nodes()
    purify(grid)
    assert len(grid.sent) == 5 * len(PARTS)
    assert set(grid.timeouts) == {300.0}


def test_the_model_travels_once_where_the_state_keeps_it(monkeypatch):
    from flain_core.federated import letters

    monkeypatch.setattr(letters, "_WORTH_KEEPING", 64)
    grid, forgetful = Nodes(), Nodes(client_app(remember=False))
    asked = [purify(each).purification.asked for each in (grid, forgetful)]
    assert asked[0].messages == asked[1].messages == 15
    assert asked[0].bytes_down < asked[1].bytes_down / 2
    first, *others = (len(each) for each in grid.sent if node_asked(each) == 2)
    assert all(other < first for other in others)
    # What else lies in the state is left alone, and only hashes are added.
    kept = grid.states[2]["flain"]
    assert all(len(name) == 64 for name in kept)


def test_the_modules_of_nodes_and_server_may_be_of_pytorch():
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


# --- With the strategy ---------------------------------------------------------------------------


def trained(grid, **options):
    federation.reseed()
    options = {"model": federation.network()} | options
    strategy = flain_flower.Purify(
        flower.FedAvg(),
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


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seed": -1}, "seed"),
        ({"layers": 3}, "layers"),
        ({"layers": "nope"}, "'nope'"),
        ({"settings": flain.Settings(flip="directions")}, "directions needs samples"),
        ({"settings": flain.Settings(promise=0.1)}, "a promise needs samples"),
        ({"model": None}, "expected a model"),
        ({"model": federation.normalized_network()}, "missing: '3.weight'"),
    ],
)
def test_what_shows_without_samples_fails_before_training(options, match):
    grid = federation.Local(app_with_clean_samples())
    _, start = trained(grid, **options)
    with pytest.raises(flain.FlainError, match=match) as caught:
        start()
    assert not isinstance(caught.value, flain_flower.PurificationError)
    assert grid.sent == []


def test_options_that_belong_to_the_nodes_are_refused():
    nodes = flain_flower.TrustedNodes(Nodes(), "all")
    for options in ({"probes": {"ASR": CLEAN}}, {"batch_size": 5}):
        with pytest.raises(
            flain.SettingsError, match=f"no {next(iter(options))}, as .* TrustedNodes"
        ):
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
