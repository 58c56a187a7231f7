"""The one call, on a network that really has a backdoor."""

import io
import json
import sys
import warnings
from dataclasses import replace

import backdoored
import numpy as np
import pytest
from by_neurons import BY_NEURONS, by_neurons
from plain import plain_reevaluation
from recut import OtherCut
from weights_agree import assert_weights_agree

import flain_core as flain
import flain_numpy
from flain_core import FlainWarning, Grid, Settings
from flain_core.score import tally

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)


@pytest.fixture(scope="module")
def pair():
    return backdoored.networks()


def purify(pair, **options):
    initial, final = pair
    return flain.purify(final, **{"initial": initial, "data": CLEAN} | options)


def weight(network, layer="fc1"):
    return network.layers()[layer].weight


def plain(pair, grid, tolerance, layer="fc1"):
    """The published procedure, every threshold a full run."""
    initial, final = pair
    activation = final.cut(layer, CLEAN[0]).inputs.mean(axis=0, dtype=np.float64)
    return plain_reevaluation(
        weight(initial, layer),
        weight(final, layer),
        activation,
        lambda candidate: final.replace({layer: candidate}).predict(CLEAN[0]),
        CLEAN[1],
        thresholds=grid.thresholds(),
        tolerance=tolerance,
    )


@pytest.mark.parametrize(("settings", "flip"), [(None, "directions"), (BY_NEURONS, "neurons")])
def test_the_backdoor_goes_and_the_accuracy_stays(pair, settings, flip):
    result = purify(pair, probes={"ASR": TRIGGERED}, settings=settings)
    assert result.before.clean > 0.97
    assert result.before.probes["ASR"] > 0.99
    assert result.after.clean >= result.before.clean - 0.002
    assert result.after.probes["ASR"] < 0.1
    assert result.layers[0].method == "incremental"
    assert result.layers[0].flip == flip
    assert result.layers[0].flipped[9:].all()


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("tolerance", [0, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("step", [0.002, 0.05])
def test_keep_equals_the_published_procedure(pair, tolerance, step):
    grid = Grid(start=0.001, step=step, stop=2.0)
    settings = by_neurons(tolerance, thresholds=grid, crossing="keep", match_norm=True)
    result = purify(pair, settings=settings)
    expected = plain(pair, grid, tolerance)
    assert result.layers[0].threshold == expected.threshold
    np.testing.assert_array_equal(result.layers[0].flipped, expected.flipped)
    np.testing.assert_allclose(
        weight(result.model),
        flain.match_norm(expected.weight, weight(pair[1])),
        rtol=1e-6,
        atol=1e-7,
    )


def test_every_step_scores_what_a_full_run_scores(pair):
    grid = Grid(start=0.0, step=0.003, stop=3.0)
    with pytest.warns(FlainWarning, match="no candidate|a tolerance of 1 lets .* lose 100%"):
        result = purify(pair, settings=by_neurons(1.0, thresholds=grid))
    expected = plain(pair, grid, tolerance=2.0)
    accuracy = dict(zip(grid.thresholds().tolist(), expected.accuracies, strict=True))
    steps = result.layers[0].steps
    assert len(steps) > 8
    assert [step.clean for step in steps] == [accuracy[step.threshold] for step in steps]


def test_the_weights_are_those_of_the_formula(pair):
    result = purify(pair, settings=by_neurons(factor=1.5))
    expected = flain.flip(
        weight(pair[0]), weight(pair[1]), result.layers[0].flipped, groups=1, factor=1.5
    )
    np.testing.assert_array_equal(weight(result.model), expected)
    for other in ("fc2", "fc3"):
        np.testing.assert_array_equal(weight(result.model, other), weight(pair[1], other))


def test_probes_never_steer(pair):
    for settings in (None, BY_NEURONS):
        alone = purify(pair, settings=settings)
        probes = {"ASR": TRIGGERED, "again": CLEAN}
        watched = purify(pair, probes=probes, settings=settings)
        np.testing.assert_array_equal(alone.layers[0].flipped, watched.layers[0].flipped)
        np.testing.assert_array_equal(weight(alone.model), weight(watched.model))
    assert [step.probes["again"] for step in watched.layers[0].steps] == [
        step.clean for step in watched.layers[0].steps
    ]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"batch_size": 1}, None),
        ({"batch_size": 7}, None),
        ({"batch_size": 1}, BY_NEURONS),
        ({"batch_size": 7}, BY_NEURONS),
        ({"memory_limit": 0}, BY_NEURONS),
        ({"memory_limit": 0}, Settings(flip="neurons")),
    ],
)
@pytest.mark.parametrize("probed", [False, True])
def test_batches_and_memory_do_not_change_the_answer(pair, options, settings, probed):
    common = {"probes": {"ASR": TRIGGERED} if probed else {}, "settings": settings}
    one, other = purify(pair, **common), purify(pair, **common, **options)
    assert one.layers[0].threshold == other.layers[0].threshold
    if settings is BY_NEURONS:
        np.testing.assert_array_equal(weight(one.model), weight(other.model))
    assert_weights_agree(weight(one.model), weight(other.model))
    assert one.after == other.after


def test_a_memory_limit_that_keeps_some_batches_gives_the_same_answer(pair):
    common = {"probes": {"ASR": TRIGGERED}, "settings": BY_NEURONS}
    one = purify(pair, **common)
    other = purify(pair, batch_size=50, memory_limit=20_000, **common)
    np.testing.assert_array_equal(one.layers[0].flipped, other.layers[0].flipped)
    assert one.layers[0].steps == other.layers[0].steps


def test_the_same_input_gives_the_same_result(pair):
    one, other = purify(pair, seed=3), purify(pair, seed=3)
    assert one.layers[0].steps == other.layers[0].steps
    np.testing.assert_array_equal(weight(one.model), weight(other.model))


def test_several_layers_share_the_tolerance(pair):
    settings = Settings(tolerance=0.02)
    result = purify(pair, layers=["fc1", "fc2"], settings=settings)
    assert [layer.name for layer in result.layers] == ["fc1", "fc2"]
    assert result.before.clean - result.after.clean <= 0.02
    assert result.layers[1].steps[0].clean <= result.before.clean
    again = flain.purify(
        purify(pair, settings=settings).model,
        initial=pair[0],
        data=CLEAN,
        layers="fc2",
        settings=settings,
        again=True,
    )
    assert result.layers[1].steps[0].clean == again.layers[0].steps[0].clean
    assert weight(result.model, "fc3").tobytes() == weight(pair[1], "fc3").tobytes()


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_later_layer_is_left_alone_once_the_tolerance_is_crossed(pair):
    settings = Settings(tolerance=0.01, crossing="keep")
    result = purify(pair, layers=["fc1", "fc2"], settings=settings)
    assert result.layers[1].stop_reason == "nothing within tolerance"
    np.testing.assert_array_equal(weight(result.model, "fc2"), weight(pair[1], "fc2"))


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("auto", ["fc1"]),
        ("dense", ["fc1", "fc2", "fc3"]),
        ("all", ["fc1", "fc2", "fc3"]),
        ("fc2", ["fc2"]),
        (["fc2", "fc1"], ["fc2", "fc1"]),
    ],
)
def test_layers_by_name_and_kind(pair, layers, names):
    assert [layer.name for layer in purify(pair, layers=layers).layers] == names


def test_a_score_that_jumps_is_decided_as_a_full_run_would(pair):
    def right(scores, y):
        return scores.argmax(axis=1) == y

    plain_score = purify(pair, score=right, settings=by_neurons(0.02))
    built_in = purify(pair, settings=by_neurons(0.02))
    np.testing.assert_array_equal(plain_score.layers[0].flipped, built_in.layers[0].flipped)
    tied = np.zeros((4, 3))
    assert tally(right, tied, np.array([0, 1, 0, 1]), window=1e-5).uncertain == 4
    assert tally(right, np.eye(3), np.arange(3), window=1e-5).uncertain == 0


def test_the_callers_labels_cannot_be_written_through_the_score(pair):
    def scribble(scores, y):
        y[:] = 0
        return scores[:, 0]

    with pytest.raises(ValueError, match="read-only"):
        purify(pair, score=scribble)
    assert CLEAN[1].any()


class Restless(flain_numpy.Network):
    """A network that scores differently each time."""

    def predict(self, x):
        return super().predict(x) + np.random.default_rng().normal(size=(len(x), 3))


def test_a_network_that_scores_at_random_is_refused(pair):
    with pytest.raises(flain.ModelError, match="differently each time"):
        purify((pair[0], Restless(pair[1].operations)))


class Opaque:
    """A network of someone else's, whose cut is wrong: its tail forgets what it was given."""

    def __init__(self, network):
        self.inner = network

    native = property(lambda self: self)

    def layers(self):
        return self.inner.layers()

    def predict(self, x):
        return self.inner.predict(x)

    def replace(self, weights, biases=None):
        return Opaque(self.inner.replace(weights, biases))

    def cut(self, layer, x):
        return WrongCut(self.inner.cut(layer, x))


class WrongCut:
    calls = 1

    def __init__(self, cut):
        self.cut, self.inputs, self.output = cut, cut.inputs, cut.output

    def linear(self, weight, neurons):
        return self.cut.linear(weight, neurons)

    def tail(self, output):
        return self.cut.tail(self.output)


@pytest.mark.parametrize("settings", [BY_NEURONS, Settings(flip="neurons")])
def test_a_wrong_cut_is_found_out_and_the_answer_is_the_same(pair, settings):
    common = {"probes": {"ASR": TRIGGERED}, "settings": settings}
    fast = purify(pair, **common)
    slow = flain.purify(Opaque(pair[1]), initial=Opaque(pair[0]), data=CLEAN, **common)
    assert slow.layers[0].method == "whole network"
    assert any("every candidate was run in full" in note for note in slow.notes)
    for one, other in zip(slow.layers[0].steps, fast.layers[0].steps, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.loss_error == pytest.approx(other.loss_error, abs=1e-6)
        unmeasured = {"loss": None, "loss_error": None}
        assert replace(one, **unmeasured) == replace(other, **unmeasured)
    np.testing.assert_array_equal(slow.layers[0].flipped, fast.layers[0].flipped)
    np.testing.assert_array_equal(weight(slow.model), weight(fast.model))
    assert slow.after == fast.after


class LateLiar(Opaque):
    """A network whose cut is right on the few samples of the proof and wrong on all of them."""

    def replace(self, weights, biases=None):
        return LateLiar(self.inner.replace(weights, biases))

    def cut(self, layer, x):
        cut = self.inner.cut(layer, x)
        return cut if len(x) <= 32 else WrongCut(cut)


def test_a_search_that_the_whole_network_does_not_confirm_is_done_again(pair):
    settings = by_neurons(0.01)
    fast = purify(pair, settings=settings)
    slow = flain.purify(LateLiar(pair[1]), initial=LateLiar(pair[0]), data=CLEAN, settings=settings)
    assert slow.layers[0].method == "whole network"
    assert "promised" in slow.layers[0].why_method
    np.testing.assert_array_equal(slow.layers[0].flipped, fast.layers[0].flipped)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_layer_that_runs_twice_is_run_in_full():
    rng = np.random.default_rng(5)
    first = rng.normal(size=(2, 12, 12)).astype(np.float32) / 3
    second = rng.normal(size=(3, 12)).astype(np.float32)

    def network(shared):
        block = flain_numpy.Dense("shared", shared)
        relu = flain_numpy.ReLU()
        return flain_numpy.Network([block, relu, block, relu, flain_numpy.Dense("out", second)])

    final = network(first[0] + 0.3 * first[1])
    y = final.predict(CLEAN[0]).argmax(axis=1)
    result = flain.purify(
        final, initial=network(first[0]), data=(CLEAN[0], y), settings=by_neurons(0.2)
    )
    assert result.layers[0].flipped.any()
    assert result.layers[0].method == "whole network"
    assert "2 times" in result.layers[0].why_method or "several" in result.layers[0].why_method
    really = final.replace({"shared": weight(result.model, "shared")}).predict(CLEAN[0])
    assert result.after.clean == (really.argmax(axis=1) == y).mean()


def test_a_score_of_the_callers(pair):
    def margin(scores, y):
        return scores[np.arange(len(y)), y] - scores.mean(axis=1)

    result = purify(pair, score=margin, settings=Settings(tolerance=0.5))
    expected = margin(pair[1].predict(CLEAN[0]), CLEAN[1]).mean()
    assert result.before.clean == pytest.approx(expected, rel=1e-5)
    assert result.after.clean >= result.before.clean - 0.5
    assert result.layers[0].flipped.any()


def test_the_callers_models_are_untouched(pair):
    initial, final = backdoored.networks()
    before = [weight(net, name).tobytes() for net in (initial, final) for name in net.layers()]
    purify((initial, final), layers="all")
    with pytest.raises(flain.DataError):
        purify((initial, final), data=(np.full((4, 12), np.nan), np.zeros(4, int)))
    with pytest.raises(KeyboardInterrupt):
        purify((initial, final), progress=_interrupt)
    after = [weight(net, name).tobytes() for net in (initial, final) for name in net.layers()]
    assert before == after


def _interrupt(progress):
    raise KeyboardInterrupt


def test_progress_is_told(pair, capsys):
    heard = []
    result = purify(pair, progress=heard.append)
    told = sorted((progress.step for progress in heard), key=lambda step: step.threshold)
    assert told == list(result.layers[0].steps)
    assert [progress.done for progress in heard] == list(range(1, len(heard) + 1))
    assert {progress.layer for progress in heard} == {"fc1"}
    assert heard[-1].done <= heard[-1].events
    assert capsys.readouterr().err == ""
    purify(pair, progress=True)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("fc1: candidate 1 of at most")
    assert len(told) == len(result.layers[0].steps)


def test_progress_on_a_terminal_stays_on_one_line(pair, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    result = purify(pair, progress=True)
    told = sys.stderr.getvalue()
    assert told.count("\r") == len(result.layers[0].steps)
    assert told.count("\n") == 1
    assert told.endswith("\n")


def test_a_network_that_cannot_be_confirmed_is_refused(pair):
    class Fickle(Opaque):
        """Scores all the samples otherwise when it is asked again, and the few of the proof not."""

        def replace(self, weights, biases=None):
            return Fickle(self.inner.replace(weights, biases))

        def predict(self, x):
            scores, asked = self.inner.predict(x), weight(self.inner).tobytes()
            if len(x) > 32 and asked in seen:
                return np.roll(scores, 1, axis=1)
            seen.add(asked)
            return scores

        def cut(self, layer, x):
            return OtherCut(self.inner.cut(layer, x), lambda _: {"calls": 2})

    seen = set()
    # It is right about nearly half of the samples whenever it is asked again, first about the rest.
    x, y = CLEAN[0], np.where(np.arange(len(CLEAN[1])) % 20 < 9, (CLEAN[1] + 1) % 3, CLEAN[1])
    with pytest.raises(flain.ModelError, match="differently each time"):
        flain.purify(Fickle(pair[1]), initial=pair[0], data=(x, y), batch_size=len(y))


def test_files_go_in_and_out(pair, tmp_path):
    for name, network in zip(("initial", "final"), pair, strict=True):
        flain_numpy.save(network, tmp_path / f"{name}.npz")
    np.savez(tmp_path / "aux.npz", x=CLEAN[0], y=CLEAN[1])
    result = flain.purify(
        tmp_path / "final.npz", initial=str(tmp_path / "initial.npz"), data=tmp_path / "aux.npz"
    )
    result.save(tmp_path / "purified.npz")
    np.testing.assert_array_equal(
        weight(flain_numpy.load(tmp_path / "purified.npz")), weight(result.model)
    )
    with pytest.raises(flain.OutputError, match="exists already"):
        result.save(tmp_path / "purified.npz")
    with pytest.raises(flain.OutputError, match=r"\.npz"):
        result.save(tmp_path / "purified.onnx")
    result.to_json(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["files"]) == {
        str(tmp_path / name) for name in ("initial.npz", "final.npz", "aux.npz")
    }
    assert all(len(digest) == 64 for digest in report["files"].values())
    assert report["layers"][0]["flipped"] == np.flatnonzero(result.layers[0].flipped).tolist()
    assert len(report["layers"][0]["steps"]) == len(result.layers[0].steps)
    assert report["settings"]["tolerance"] == Settings().tolerance
    assert report["versions"]["numpy"] == np.__version__
    assert "LayerOutcome('fc1'" in repr(result)


def test_a_networks_save_is_asked_for_by_its_backend(pair, tmp_path):
    result = flain.purify(Opaque(pair[1]), initial=Opaque(pair[0]), data=CLEAN)
    with pytest.raises(flain.OutputError, match=r"result\.model"):
        result.save(tmp_path / "a.npz")


def changed(network, layer, value):
    array = weight(network, layer).copy()
    array.flat[0] = value
    return flain_numpy.Network(
        [
            flain_numpy.Dense(op.name, array, op.bias)
            if isinstance(op, flain_numpy.Dense) and op.name == layer
            else op
            for op in network.operations
        ]
    )


def narrower():
    rng = np.random.default_rng(0)
    shapes = [(10, 12), (6, 10), (3, 6)]
    return flain_numpy.Network(
        [
            flain_numpy.Dense(f"fc{i + 1}", rng.normal(size=shape).astype(np.float32))
            for i, shape in enumerate(shapes)
        ]
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layers": "fc_1"}, flain.LayerError, "Did you mean 'fc1'"),
        ({"layers": ["fc1", "fc9"]}, flain.LayerError, "'fc1', 'fc2', 'fc3'"),
        ({"layers": "fc1.weight"}, flain.LayerError, "Did you mean 'fc1'"),
        ({"layers": None}, flain.LayerError, '"auto"'),
        ({"settings": {"tolerance": 0.1}}, flain.SettingsError, "flain.Settings("),
        ({"settings": Settings}, flain.SettingsError, "flain.Settings("),
        ({"probes": TRIGGERED}, flain.SettingsError, "by name"),
        ({"probes": {"clean": CLEAN}}, flain.SettingsError, "rename"),
        ({"score": "accuracy"}, flain.SettingsError, "function"),
        ({"initial": flain_numpy.Network}, flain.ModelError, "the class Network"),
        ({"initial": {"fc1": np.zeros((2, 2))}}, flain.FlainError, "fc1"),
        ({"data": list(CLEAN)}, flain.DataError, "Write data=(x, y)"),
        ({"data": CLEAN[0]}, flain.DataError, "labels are missing"),
        ({"data": {"x": CLEAN[0], "z": CLEAN[1]}}, flain.DataError, "expected a tuple (x, y)"),
        ({"layers": "conv"}, flain.LayerError, "no conv layer"),
        ({"layers": []}, flain.LayerError, "one or more layers"),
        ({"layers": ["fc1", "fc1"]}, flain.LayerError, "once"),
        ({"initial": "nowhere.npz"}, flain.FlainError, "nowhere.npz"),
        ({"initial": __file__}, flain.ModelError, "--architecture"),
        ({"initial": 42}, flain.ModelError, "int"),
        ({"data": (CLEAN[0], CLEAN[1] + 1)}, flain.DataError, "0 to 2"),
        ({"data": (CLEAN[0][:, :11], CLEAN[1])}, flain.FlainError, "11"),
        ({"data": (CLEAN[0], CLEAN[1][:-1])}, flain.DataError, "300 samples"),
        ({"probes": {"p": (CLEAN[0][:0], CLEAN[1][:0])}}, flain.DataError, "probe 'p'"),
        ({"batch_size": 0}, flain.SettingsError, "batch_size"),
        ({"batch_size": 2.5}, flain.SettingsError, "whole number"),
        ({"memory_limit": -1}, flain.SettingsError, "memory_limit"),
        ({"memory_limit": None}, flain.SettingsError, "memory_limit"),
        ({"seed": -1}, flain.SettingsError, "seed"),
        ({"probes": []}, flain.SettingsError, "by name"),
        ({"probes": {None: CLEAN}}, flain.SettingsError, "strings"),
        ({"score": lambda s, y: s}, flain.DataError, "one real number for each"),
        ({"score": lambda s, y: s[:, 0] * 1j}, flain.DataError, "one real number"),
        ({"score": lambda s, y: [[1], [2, 3]]}, flain.DataError, "list"),
        ({"score": lambda s, y: s[:, 0] * np.nan}, flain.DataError, "NaN"),
    ],
)
def test_bad_input_is_refused(pair, options, error, words):
    with pytest.raises(error) as caught:
        purify(pair, **options)
    assert words in str(caught.value)


def test_models_that_do_not_belong_together_are_refused(pair):
    initial, final = pair
    with pytest.raises(flain.WeightsError, match="equal weights"):
        purify((final, final))
    with pytest.raises(flain.WeightsError, match="'fc2' differs"):
        purify((narrower(), final))
    with pytest.raises(flain.WeightsError, match="different layers"):
        purify((flain_numpy.Network(initial.operations[:3]), final))
    with pytest.raises(flain.WeightsError, match="float64"):
        purify((backdoored.networks(dtype=np.float64)[0], final))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(pair, bad):
    initial, final = pair
    with pytest.raises(flain.WeightsError, match=r"NaN|finite"):
        purify((initial, changed(final, "fc1", bad)))
    with pytest.raises(flain.WeightsError, match=r"NaN|finite"):
        purify((changed(initial, "fc1", bad), final))


def test_a_layer_that_was_not_trained(pair):
    initial, final = pair
    frozen = final.replace({"fc2": weight(initial, "fc2")})
    with pytest.raises(flain.WeightsError, match="did not change 'fc2'"):
        purify((initial, frozen), layers="fc2")
    result = purify((initial, frozen), layers="all")
    assert [layer.stop_reason for layer in result.layers][1] == "no update"
    assert not result.model.layers()["fc2"].weight[:, result.layers[1].flipped].size
    assert result.to_dict()["layers"][1] | {"norms": None} == {
        "name": "fc2",
        "flip": "none",
        "threshold": None,
        "flipped": [],
        "share": 0.0,
        "class_share": None,
        "stop_reason": "no update",
        "steps": [],
        "activation": [],
        "input_neurons": 10,
        "grouped": 1,
        "method": "none",
        "why_method": "the layer was passed by",
        "seconds": 0.0,
        "norms": None,
        "grid": None,
    }


def test_the_time_of_the_layers_is_part_of_the_whole(pair):
    result = purify(pair, layers="all")
    assert all(layer.seconds > 0 for layer in result.layers)
    assert sum(layer.seconds for layer in result.layers) < result.seconds


def test_labels_that_do_not_match_are_pointed_out(pair):
    with pytest.warns(FlainWarning) as raised:
        purify(pair, data=(CLEAN[0], (CLEAN[1] + 1) % 3))
    assert any("no better than chance" in str(warning.message) for warning in raised)


def test_a_model_that_was_left_as_it_is_is_pointed_out(pair):
    settings = by_neurons(thresholds=Grid(start=5.0, step=1.0, stop=9.0))
    with pytest.warns(FlainWarning, match="^not flipped: the model is as it was"):
        result = purify(pair, settings=settings)
    assert not result.layers[0].flipped.any()
    shown = "nothing flipped, stopped by 'nothing within tolerance' after 1 candidate, incremental"
    assert shown in repr(result)
    np.testing.assert_array_equal(result.model.predict(CLEAN[0]), pair[1].predict(CLEAN[0]))


def test_models_in_each_others_place_are_refused(pair):
    with pytest.raises(flain.WeightsError, match=r"given in each other's place.*as the final"):
        flain.purify(pair[0], initial=pair[1], data=CLEAN)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("mistake", ["labels", "inputs"])
def test_other_mistakes_are_not_taken_for_models_in_each_others_place(pair, mistake):
    """Then both models do badly, and the initial one a little better by chance."""
    x, y = CLEAN
    wrong = {"labels": (x, (y + 1) % 3), "inputs": (x[:, ::-1].copy(), y)}[mistake]
    notes = purify(pair, data=wrong).notes
    assert any("no better than chance" in note for note in notes)
    assert not any("place of" in note or "swapped" in note for note in notes)


def test_a_loss_far_beyond_the_tolerance_is_pointed_out(pair):
    grid = Grid(start=5.0, step=1.0, stop=9.0)
    settings = by_neurons(0.001, thresholds=grid, crossing="keep")
    with pytest.warns(FlainWarning) as raised:
        result = purify(pair, settings=settings)
    assert result.before.clean - result.after.clean > 0.2
    told = [str(warning.message) for warning in raised]
    assert any("far beyond the tolerance" in message for message in told)
    assert any("very first candidate" in message for message in told)


@pytest.mark.filterwarnings("ignore:a tolerance of:flain_core.FlainWarning")
def test_too_few_samples_are_pointed_out(pair):
    with pytest.warns(FlainWarning, match="5 clean samples are too few"):
        purify(pair, data=(CLEAN[0][:5], CLEAN[1][:5]), settings=Settings(tolerance=0.5))


def test_an_incomplete_network_is_told_what_it_lacks(pair):
    class Half:
        layers = predict = cut = replace = None

    with pytest.raises(flain.ModelError, match="lacks native"):
        flain.purify(Half(), initial=pair[0], data=CLEAN)


def test_one_hot_labels_are_accepted_with_a_note(pair):
    result = purify(pair, data=(CLEAN[0], np.eye(3)[CLEAN[1]]))
    assert any("one-hot" in note for note in result.notes)
    result = purify(pair, data=(CLEAN[0], np.eye(3)[CLEAN[1]]), settings=BY_NEURONS)
    assert any("one-hot" in note for note in result.notes)
    assert any("0.3333%" in note for note in result.notes)


@pytest.mark.filterwarnings("ignore:a tolerance of:flain_core.FlainWarning")
def test_negative_means_are_pointed_out(pair):
    def shifted(network):
        return flain_numpy.Network([flain_numpy.Tanh(), *network.operations])

    x = CLEAN[0] - 0.2
    y = shifted(pair[1]).predict(x).argmax(axis=1)
    with pytest.warns(FlainWarning, match="mean_abs"):
        flain.purify(
            shifted(pair[1]),
            initial=shifted(pair[0]),
            data=(x, y),
            settings=by_neurons(0.3),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "a tolerance of")
        flain.purify(
            shifted(pair[1]),
            initial=shifted(pair[0]),
            data=(x, y),
            settings=by_neurons(0.3, statistic="mean_abs"),
        )
