"""Auxiliary samples on a Ray cluster of two processes give the answer that they give here."""

import gc
import os
import re
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import backdoored
import numpy as np
import pytest
import ray_parts
from in_process import as_elsewhere

import flain_core as flain
import flain_numpy
from flain_cli import example
from flain_core import Settings
from flain_numpy import Dense

ray = pytest.importorskip("ray")
flain_ray = pytest.importorskip("flain_ray")

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "ray.md"
INITIAL, FINAL = backdoored.networks()
CLEAN = backdoored.samples(300, seed=11)
ASR = backdoored.triggered(170, seed=12)
EXAMPLE = dict(zip(("initial", "final", "data"), example.files().paths[:3], strict=True))
TRIGGERED = example.files().paths[4]


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", ray_parts.PATH)
        with ray_warns_of_itself():
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        with ray_warns_of_itself():
            ray.shutdown()
            gc.collect()


@contextmanager
def ray_warns_of_itself():
    """Ray leaves log files and processes to the garbage collector, and has a tip for everyone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)
        yield


@pytest.fixture(autouse=True)
def _on_the_cluster(cluster):
    """Every test runs on the one cluster."""


def shards(data=CLEAN, **options):
    return flain_ray.Shards(data, **{"actors": 2} | options)


def assert_same(result, expected):
    assert result.before == expected.before
    assert result.after == expected.after
    # Why nothing is promised differs.
    notes, others = (
        [note for note in each.notes if not note.startswith("nothing is promised")]
        for each in (result, expected)
    )
    assert notes == others
    for layer, other in zip(result.layers, expected.layers, strict=True):
        assert layer.threshold == other.threshold
        assert layer.stop_reason == other.stop_reason
        assert layer.method == other.method == "incremental"
        assert_same_steps(layer.steps, other.steps)
        np.testing.assert_array_equal(layer.flipped, other.flipped)
        np.testing.assert_array_equal(layer.activation, other.activation)
        assert layer.flipped.any()


def assert_same_steps(steps, others):
    """But for the last digits of losses, and for bounds on rounding with what follows from them.

    Both depend on the parts, so that a candidate at the crossing may be recomputed here alone.
    """
    losses, expected = ([step.loss for step in each] for each in (steps, others))
    assert losses == (expected if None in expected else pytest.approx(expected, abs=1e-6))
    of_parts = {"loss": None, "loss_error": None, "rounding": 0, "recomputed": False}
    without = [[replace(step, **of_parts) for step in each] for each in (steps, others)]
    assert without[0] == without[1]


def assert_same_weights(model, expected):
    for name, layer in expected.layers().items():
        np.testing.assert_array_equal(model.layers()[name].weight, layer.weight)


def both(data, final, initial, probes=None, score=flain.accuracy, spread=None, **options):
    """The purification on the cluster, and the one of the same samples here."""
    with shards(data, probes=probes, score=score, **spread or {}) as held:
        result = flain.purify(final, initial=initial, data=held, **options)
    size = held.batch_size
    here = {"data": data, "probes": probes, "score": score, "batch_size": size}
    options["settings"] = as_elsewhere(options.get("settings"))
    return result, flain.purify(final, initial=initial, **here, **options)


def here(final=FINAL, initial=INITIAL):
    settings = as_elsewhere()
    return flain.purify(final, initial=initial, data=CLEAN, batch_size=150, settings=settings)


IN_PARTS = [{"actors": 1}, {"actors": 2}, {"actors": 2, "shards": 7}]
in_parts = pytest.mark.parametrize("spread", IN_PARTS, ids=["1 shard", "2 shards", "7 shards"])


@in_parts
def test_the_backdoored_network_is_purified_as_here(spread):
    result, expected = both(CLEAN, FINAL, INITIAL, probes={"ASR": ASR}, spread=spread)
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)
    assert result.before.probes["ASR"] > 0.9 > 0.1 > result.after.probes["ASR"]


@in_parts
def test_several_layers_of_the_example_are_purified_as_here(spread):
    result, expected = both(
        EXAMPLE["data"],
        flain_numpy.load(EXAMPLE["final"]),
        flain_numpy.load(EXAMPLE["initial"]),
        probes={"ASR": TRIGGERED},
        spread=spread,
        layers=["conv2", "fc1"],
        settings=Settings(tolerance=0.01),
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)
    assert result.after.probes["ASR"] < 0.02


def test_a_score_of_the_callers_own_is_measured_as_here():
    result, expected = both(
        CLEAN, FINAL, INITIAL, score=ray_parts.margin, settings=Settings(tolerance=0.2)
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)


def test_what_does_not_fit_into_memory_is_run_again():
    result, expected = both(CLEAN, FINAL, INITIAL, spread={"memory_limit": 0})
    assert_same(result, expected)


def test_probes_may_have_fewer_batches_than_the_samples_or_more():
    for count in (1, 1000):
        probe = backdoored.triggered(3 * count, seed=5)
        spread = {"shards": 7, "batch_size": 40}
        assert_same(*both(CLEAN, FINAL, INITIAL, probes={"ASR": probe}, spread=spread))


def test_labels_in_rows_are_remarked_on_as_here():
    one_hot = CLEAN[0], np.eye(3)[CLEAN[1]]
    result, expected = both(one_hot, FINAL, INITIAL)
    assert_same(result, expected)
    assert any("one-hot" in note for note in result.notes)


def test_the_example_of_the_page_runs():
    usage, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"model": FINAL, "initial": INITIAL, "x": CLEAN[0], "y": CLEAN[1]}
    exec(usage, names)
    assert_same(
        names["result"],
        here(),
    )


# Models of every kind.


def test_a_torch_module_is_purified_as_here():
    torch = pytest.importorskip("torch")
    # One thread, as an actor with one CPU has: more add up in another order.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        final, initial = torch_example("final"), torch_example("initial")
        result, expected = both(EXAMPLE["data"], final, initial, spread={"shards": 7})
    finally:
        torch.set_num_threads(threads)
    assert_same(result, expected)
    for mine, other in zip(result.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def torch_example(name):
    import ray_torch
    import torch

    module = ray_torch.Example()
    network = flain_numpy.load(EXAMPLE[name])
    for operation in network.operations:
        if hasattr(operation, "weight"):
            layer = getattr(module, operation.name)
            layer.weight.data = torch.from_numpy(operation.weight.copy())
            layer.bias.data = torch.from_numpy(operation.bias.copy())
    return module.eval()


def onnx_pair(*outputs):
    """The backdoored network and its initial one as ONNX models, perhaps of several outputs."""
    onnx_models = pytest.importorskip("onnx_models")
    node, value = onnx_models.node, onnx_models.value

    def made(network):
        dense = [each for each in network.operations if isinstance(each, Dense)]
        nodes, tensors, x = [], {}, "x"
        for each in dense:
            tensors[f"{each.name}__weight"], tensors[f"{each.name}__bias"] = each.weight, each.bias
            names = [f"{each.name}.weight", f"{each.name}.bias"]
            last = each is dense[-1]
            z = "scores" if last else f"{each.name}_z"
            nodes.append(node("Gemm", [x, *names], [z], transB=1))
            if not last:
                x = f"{each.name}_a"
                nodes.append(node("Relu", [z], [x]))
        nodes.append(node("Neg", ["scores"], ["negated"]))
        shapes = {"scores": 3, "negated": 3}
        return onnx_models.model(
            nodes,
            [value("x", "n", 12)],
            [value(name, "n", shapes[name]) for name in outputs],
            **tensors,
        )

    return made(INITIAL), made(FINAL)


def test_an_onnx_model_is_purified_as_here():
    initial, final = onnx_pair("scores")
    result, expected = both(CLEAN, final, initial)
    assert_same(result, expected)
    assert result.model == expected.model


def test_the_scores_of_an_onnx_model_stay_those_that_were_chosen():
    pytest.importorskip("onnxruntime")
    from flain_onnx import OnnxModel, open_network

    initial, final = onnx_pair("negated", "scores")
    chosen = OnnxModel(final, scores="scores")
    assert_same(*both(CLEAN, chosen, OnnxModel(initial, scores="scores")))
    # A network that was told by another model which output it is.
    told = open_network(final, like=chosen)
    assert_same(*both(CLEAN, told, OnnxModel(initial, scores="scores")))


def test_a_perceptron_of_scikit_learn_is_purified_as_here():
    model = pytest.importorskip("sklearn.neural_network").MLPClassifier((10, 7), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*CLEAN)
    dense = [each for each in FINAL.operations if isinstance(each, Dense)]
    before = [each for each in INITIAL.operations if isinstance(each, Dense)]
    model.coefs_ = [each.weight.T.copy() for each in dense]
    model.intercepts_ = [each.bias.copy() for each in dense]
    initial = {"coefs_": [each.weight.T for each in before]}
    result, expected = both(CLEAN, model, initial)
    assert_same(result, expected)
    for mine, other in zip(result.model.coefs_, expected.model.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)


# Actors that die.


def test_an_actor_that_dies_is_started_anew_and_the_answer_stays_right(tmp_path):
    dies = ray_parts.Dies(tmp_path, at_call=5, times=2)
    settings = Settings(tolerance=0.05)
    with shards(score=dies) as held:
        result = flain.purify(FINAL, initial=INITIAL, data=held, settings=settings)
    assert len(list(tmp_path.iterdir())) == 2
    never = ray_parts.Dies(tmp_path, at_call=-1, times=0)
    size = held.batch_size
    expected = flain.purify(
        FINAL,
        initial=INITIAL,
        data=CLEAN,
        settings=as_elsewhere(settings),
        score=never,
        batch_size=size,
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)


def test_an_actor_that_dies_again_and_again_is_an_error(tmp_path):
    dies = ray_parts.Dies(tmp_path, at_call=5, times=1000)
    with (
        shards(score=dies, options={"max_restarts": 1}) as held,
        pytest.raises(flain.DataError, match=r"actor \d of 2 is lost, and the samples it holds"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert 2 <= len(list(tmp_path.iterdir())) <= 4


def killed(held, *, at_step, no_restart):
    """Kills the first actor when the search has come so far."""
    steps = []

    def on_progress(progress):
        steps.append(progress)
        if len(steps) == at_step:
            actor, _ = held._pool.actors[0]
            ray.kill(actor, no_restart=no_restart)

    return on_progress


def test_an_actor_that_is_killed_is_started_anew():
    with shards(lookahead=1) as held:
        kill = killed(held, at_step=3, no_restart=False)
        result = flain.purify(FINAL, initial=INITIAL, data=held, progress=kill)
    assert_same(
        result,
        here(),
    )


def test_an_actor_that_is_killed_for_good_is_an_error():
    with (
        shards(lookahead=1) as held,
        pytest.raises(flain.DataError, match="actor 1 of 2 is lost"),
    ):
        kill = killed(held, at_step=3, no_restart=True)
        flain.purify(FINAL, initial=INITIAL, data=held, progress=kill)


def wait_until_gone(pids):
    for _ in range(100):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"{alive} still run")


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_ctrl_c_stops_the_actors(tmp_path):
    def interrupt():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt),
        shards(score=ray_parts.Notes(tmp_path, seconds=5)) as held,
    ):
        threading.Thread(target=interrupt, daemon=True).start()
        flain.purify(FINAL, initial=INITIAL, data=held)
    wait_until_gone([int(path.name) for path in tmp_path.iterdir()])


def test_an_answer_that_takes_too_long_is_an_error(tmp_path):
    slow = ray_parts.Notes(tmp_path, seconds=60)
    with (
        shards(score=slow, timeout=8) as held,
        pytest.raises(flain.DataError, match=r"did not answer within 8\.0 s"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)


# Errors arrive as what they are.


def test_a_label_beyond_the_classes_is_the_same_error_as_here():
    x, y = CLEAN
    wrong = x, np.where(np.arange(len(y)) == 200, 3, y)
    with pytest.raises(flain.DataError) as here:
        flain.purify(FINAL, initial=INITIAL, data=wrong)
    with shards(wrong) as held, pytest.raises(flain.DataError) as there:
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert str(there.value) == str(here.value)


def test_what_a_score_function_raises_is_raised():
    with shards(score=ray_parts.fails) as held, pytest.raises(ZeroDivisionError) as raised:
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert type(raised.value) is ZeroDivisionError


def test_what_cannot_be_sent_back_is_told():
    with (
        shards(score=ray_parts.fails_oddly) as held,
        pytest.raises(flain.DataError, match=r"Ray says: .*OddError"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)


def test_a_model_that_cannot_be_sent_is_refused():
    with shards() as held, pytest.raises(flain.ModelError, match="cannot be pickled"):
        flain.purify(ray_parts.Locked(FINAL), initial=INITIAL, data=held)


def test_a_model_that_arrives_as_another_one_is_refused():
    with (
        shards() as held,
        pytest.raises(flain.ModelError, match="differently on an actor than here"),
    ):
        flain.purify(ray_parts.Changed(FINAL), initial=INITIAL, data=held)


def test_code_that_the_actors_lack_is_named(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def score(scores, y):\n    return scores[:, 0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with shards(score=only_here.score) as held:
        (tmp_path / "only_here.py").unlink()
        with pytest.raises(flain.ModelError, match=r"No module named 'only_here'.*runtime_env"):
            flain.purify(FINAL, initial=INITIAL, data=held)


def test_more_actors_than_the_cluster_has_room_for_are_refused():
    with (
        pytest.raises(flain.SettingsError, match=r"3 actors need 3 CPUs, .* has 2"),
        shards(actors=3),
    ):
        pass


def test_shards_enter_one_with_statement_at_a_time():
    with shards() as once:
        with pytest.raises(flain.SettingsError, match="in a with statement already"), once:
            pass
        assert flain.purify(FINAL, initial=INITIAL, data=once).layers[0].flipped.any()
    with once:
        assert flain.purify(FINAL, initial=INITIAL, data=once).layers[0].flipped.any()


def test_two_models_can_be_purified_with_the_same_shards():
    other_initial, other_final = backdoored.networks(seed=5)
    with shards() as held:
        first = flain.purify(FINAL, initial=INITIAL, data=held)
        second = flain.purify(other_final, initial=other_initial, data=held)
    assert_same(
        first,
        here(),
    )
    expected = flain.purify(
        other_final, initial=other_initial, data=CLEAN, batch_size=150, settings=as_elsewhere()
    )
    assert_same(second, expected)
