"""The code of docs/flower.md, as it stands there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from backdoored import samples, triggered
from recipes import code, page

import flain_core as flain

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
flower = pytest.importorskip("flwr.serverapp.strategy")
records = pytest.importorskip("flwr.app")
flain_flower = pytest.importorskip("flain_flower")

pytestmark = pytest.mark.usefixtures("one_torch_thread", "in_tmp_path")

PAGE = "../flower"


def read(title, **names):
    """Run a block of the page; return the names it leaves."""
    exec(code(PAGE, title), names)
    return names


@pytest.fixture
def app():
    """What the page takes for granted."""
    federation.reseed()
    x, y = samples(400, seed=5)
    network = federation.network()
    return {
        "FedAvg": flower.FedAvg,
        "grid": federation.Local(federation.client_app()),
        "initial_arrays": records.ArrayRecord(network.state_dict()),
        "evaluate": lambda *_: records.MetricRecord({"ACC": 1.0}),
        "network": network,
        "x": x,
        "y": y,
    }


def asr(arrays):
    return federation.measured(federation.network(), arrays)[1]


def test_two_lines(app):
    names = read("server_app.py", **app)
    strategy, result = names["strategy"], names["result"]
    assert sorted(result.evaluate_metrics_serverapp) == [0, 1, 2, 3, 4]
    assert asr(strategy.trained_arrays) > 0.4
    assert asr(result.arrays) < 0.02
    assert strategy.failure is None
    assert strategy.purification.layers[0].flipped.any()


def test_the_trained_model_is_in_the_error(app):
    app["grid"] = federation.Local(federation.client_app(), failing=range(1, 8))
    strategy = flain_flower.Purify(flower.FedAvg(), model=app["network"], data=(app["x"], app["y"]))
    error = flain_flower.PurificationError
    names = read("raise", strategy=strategy, PurificationError=error, **app)
    assert names["result"].arrays is strategy.trained_arrays
    assert isinstance(strategy.failure, flain.WeightsError)


def test_what_a_run_left_is_purified_later(app):
    strategy = read("server_app.py", **app)["strategy"]
    names = read("later", folder=strategy.folder, **app)
    assert asr(names["trained"]) > 0.4
    assert asr(names["purified"].arrays) < 0.02


def test_the_configuration_of_the_page_is_taken(app):
    from types import SimpleNamespace

    import tomllib
    from flwr.common.config import flatten_dict

    text = page(PAGE).split('```toml title="pyproject.toml"\n')[1].split("```")[0]
    pyproject = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    pyproject["flain"]["layers"] = "0"
    context = SimpleNamespace(run_config=flatten_dict(pyproject))
    names = read("from_config", context=context, Purify=flain_flower.Purify, **app)
    strategy = names["strategy"]
    assert strategy.enabled
    strategy.start(app["grid"], app["initial_arrays"], num_rounds=1)
    assert [layer.name for layer in strategy.purification.layers] == ["0"]


def test_every_key_and_every_metric_is_on_the_page(app):
    from flain_flower.run_config import _OPTIONS, _SETTINGS

    for key in {**_OPTIONS, **_SETTINGS}:
        assert f"`{key.replace('_', '-')}`" in page(PAGE)
    strategy = read("server_app.py", **app)["strategy"]
    for name in strategy.metrics:
        assert f"`{name}`" in page(PAGE)


def test_without_the_wrapper(app):
    result = flower.FedAvg().start(app["grid"], app["initial_arrays"])
    purified = read("plain", result=result, **app)["purified"]
    assert asr(result.arrays) > 0.4
    assert asr(purified.arrays) < 0.02


def test_the_older_strategies():
    server = pytest.importorskip("flwr.server")
    common = pytest.importorskip("flwr.common")
    client_proxy = pytest.importorskip("flwr.server.client_proxy")
    ok = common.Status(common.Code.OK, "")

    class Client(client_proxy.ClientProxy):
        """One client of the federation, under the older interface."""

        def get_parameters(self, ins, timeout, group_id):
            arrays = [value.numpy() for value in federation.network().state_dict().values()]
            return common.GetParametersRes(ok, common.ndarrays_to_parameters(arrays))

        def fit(self, ins, timeout, group_id):
            module = federation.network()
            loaded = map(torch.from_numpy, common.parameters_to_ndarrays(ins.parameters))
            module.load_state_dict(dict(zip(module.state_dict(), loaded, strict=True)))
            x, y = federation.holding(int(self.cid))
            federation.train(module, x, y)
            arrays = [value.numpy() for value in module.state_dict().values()]
            return common.FitRes(ok, common.ndarrays_to_parameters(arrays), len(y), {})

        def evaluate(self, ins, timeout, group_id):
            return common.EvaluateRes(ok, 0.0, 1, {})

        reconnect = get_properties = None

    federation.reseed()
    names = read("legacy", NUM_ROUNDS=3)
    manager = server.SimpleClientManager()
    for number in range(federation.CLIENTS):
        manager.register(Client(str(number)))
    server.Server(client_manager=manager, strategy=names["strategy"]).fit(3, timeout=None)

    x, y = samples(400, seed=5)
    names |= {"flain": flain, "network": federation.network(seed=9), "x": x, "y": y}
    names = read("legacy, after the run", **names)

    def named(arrays):
        keys = federation.network().state_dict()
        return {key: records.Array(array) for key, array in zip(keys, arrays, strict=True)}

    ends = names["ends"]
    np.testing.assert_array_equal(ends[0][0], federation.network()[0].weight.detach().numpy())
    assert asr(named(ends[3])) > 0.4
    assert asr(named(names["purified"].arrays)) < 0.02


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn():
    neural_network = pytest.importorskip("sklearn.neural_network")
    from flwr.app import Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    def fresh():
        model = neural_network.MLPClassifier((16,), learning_rate_init=0.02, random_state=0)
        x, y = samples(50, seed=1)
        return model.partial_fit(x, y, classes=range(3))

    app = ClientApp()

    @app.train()
    def fit(message, context):
        model = fresh()
        values = message.content["arrays"].to_numpy_ndarrays()
        model.coefs_, model.intercepts_ = values[::2], values[1::2]
        x, y = federation.holding(context.node_config["partition-id"])
        for _ in range(12):
            model.partial_fit(x.numpy(), y.numpy())
        flat = [each for pair in zip(model.coefs_, model.intercepts_, strict=True) for each in pair]
        metrics = MetricRecord({"num-examples": len(y)})
        content = RecordDict({"arrays": records.ArrayRecord(flat), "metrics": metrics})
        return Message(content, reply_to=message)

    federation.reseed()
    model, (x, y) = fresh(), samples(400, seed=5)
    names = {
        "ArrayRecord": records.ArrayRecord,
        "FedAvg": lambda: flower.FedAvg(fraction_evaluate=0.0),
        "Purify": flain_flower.Purify,
        "grid": federation.Local(app),
        "model": model,
        "x": x,
        "y": y,
    }
    strategy = read("scikit-learn", **names)["strategy"]
    bad_x, bad_y = triggered(600, seed=8)
    trained = fresh()
    values = strategy.trained_arrays.to_numpy_ndarrays()
    trained.coefs_, trained.intercepts_ = values[::2], values[1::2]
    assert trained.score(bad_x, bad_y) > 0.4
    assert model.score(bad_x, bad_y) < 0.05
    clean_x, clean_y = samples(600, seed=7)
    assert model.score(clean_x, clean_y) >= trained.score(clean_x, clean_y) - 0.01


def test_batch_normalization_that_clients_keep(app):
    """FedBN."""
    build = federation.normalized_network

    def shared(state):
        return records.ArrayRecord({k: v for k, v in state.items() if not k.startswith("1.")})

    clients, grid = federation.client_app(build, pack=shared), app["grid"]

    class Own(federation.Local):
        """Clients put their own batch normalization to what they are sent."""

        def _answers(self, message):
            state = build().state_dict() | message.content["arrays"].to_torch_state_dict()
            message.content["arrays"] = records.ArrayRecord(state)
            yield from super()._answers(message)

    grid = Own(clients)
    x, y = app["x"], app["y"]
    model = build()
    federation.train(model, *federation.holding(5))
    strategy = flain_flower.Purify(flower.FedAvg(fraction_evaluate=0.0), model=model, data=(x, y))
    result = strategy.start(grid, shared(build().state_dict()), num_rounds=2)
    assert list(result.arrays) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert any("4 arrays were not given" in note for note in strategy.purification.notes)


@pytest.mark.slow
def test_keras():
    # Here it would load with an engine that other tests do not want.
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    script = Path(__file__).with_name("flower_keras.py")
    path = [Path(__file__).parent, Path(__file__).parents[1], *sys.path]
    ran = subprocess.run(
        [sys.executable, script],
        input=code(PAGE, "keras"),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "KERAS_BACKEND": "torch"},
    )
    assert ran.returncode == 0, ran.stderr
    before, after = (map(float, line.split()) for line in ran.stdout.splitlines())
    (acc, attack), (purified_acc, purified_attack) = before, after
    assert attack > 0.7
    assert purified_attack < 0.02
    assert purified_acc >= acc - 0.01


def test_the_page_names_the_switches_that_the_tests_use():
    line = page(PAGE).split("$ export ")[1].split("\n")[0]
    assert all(os.environ[name] == value for name, value in (e.split("=") for e in line.split()))
    assert len(line.split()) == 3
