"""The one call, on a network that really has a backdoor."""

import io
import json
import sys

import backdoored
import numpy as np
import pytest
from backdoored_purified import CLEAN, TRIGGERED, purify, weight
from by_neurons import BY_NEURONS, by_neurons
from plain import plain_reevaluation
from weights_agree import assert_weights_agree

import flain_core as flain
import flain_numpy
from flain_core import FlainWarning, Grid, Settings
from flain_core.score import tally


@pytest.fixture(scope="module")
def pair():
    return backdoored.networks()


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


@pytest.mark.filterwarnings("ignore:some classes lost:flain_core.FlainWarning")
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
    settings = Settings(tolerance=0.02, crossing="keep")
    result = purify(pair, layers=["fc1", "fc2"], settings=settings)
    assert result.layers[1].stop_reason == "nothing within tolerance"
    assert any("'fc2' was not searched, as the layers before it" in note for note in result.notes)
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
        "most_flipped_class": None,
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
