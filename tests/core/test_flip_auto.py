"""Which layers are flipped in directions, which by neurons, and what is said of it."""

import backdoored
import numpy as np
import pytest
from recut import Recut

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.conformance.never_cut import never_cut
from flain_numpy import Conv2d, Dense, Flatten, Network, ReLU

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()
DIRECTIONS = Settings(flip="directions")


def purify(final=FINAL, initial=INITIAL, data=CLEAN, **options):
    return flain.purify(final, initial=initial, data=data, **options)


def told(result):
    return [note for note in result.notes if "whole neurons were tried" in note]


def halves(network):
    return Network(
        [
            Dense(op.name, op.weight.astype(np.float16), op.bias.astype(np.float16))
            if isinstance(op, Dense)
            else op
            for op in network.operations
        ]
    )


def forgetful(network):
    """A network whose cuts forget what they are given, which only the proof finds out."""

    def forgets(cut):
        return {"tail": lambda _: cut.tail(cut.output), "tail_by_sample": None}

    return Recut(network, forgets)


def test_dense_layers_are_flipped_in_directions():
    result = purify(layers="all")
    assert [outcome.flip for outcome in result.layers] == ["directions"] * 3
    assert told(result) == []
    for outcome, name in zip(result.layers, ("fc1", "fc2", "fc3"), strict=True):
        layers = FINAL.layers()[name], result.model.layers()[name]
        assert (outcome.share > 0) == (not np.array_equal(*(layer.weight for layer in layers)))


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_layers_that_see_tokens_are_flipped_in_directions_too():
    def by_token(network):
        # Every row of four features is a token, so the first layer sees each sample three times.
        first = Dense("each", network.operations[0].weight[:, :4])
        rest = np.concatenate([np.eye(3)] * 10, axis=1)
        return Network([first, ReLU(), Flatten(), Dense("head", rest.astype(np.float32))])

    x, y = CLEAN
    data = x.reshape(len(x), 3, 4), y
    initial, final = map(by_token, (INITIAL, FINAL))
    result = purify(final, initial, data, layers="each", outputs="logits")
    assert result.layers[0].flip == "directions"
    assert result.layers[0].method == "incremental"
    assert told(result) == []


@pytest.mark.parametrize(
    ("final", "initial", "options", "reason"),
    [
        (FINAL, INITIAL, {"memory_limit": 0}, "its inputs were not kept"),
        (never_cut(FINAL), never_cut(INITIAL), {}, "several times"),
        (forgetful(FINAL), forgetful(INITIAL), {}, "under flipped weights the cut is wrong"),
        (halves(FINAL), halves(INITIAL), {}, "float32 weights"),
    ],
)
def test_neurons_are_flipped_where_directions_cannot_be(final, initial, options, reason):
    result = purify(final, initial, **options)
    assert result.layers[0].flip == "neurons"
    assert len(told(result)) == 1
    assert result.layers[0].steps[0].loss is not None
    with pytest.raises(flain.LayerError, match=reason) as raised:
        purify(final, initial, settings=DIRECTIONS, **options)
    assert "cannot be flipped in directions" in str(raised.value)


@pytest.mark.parametrize("settings", [Settings(flip="neurons"), Settings(statistic="rms")])
def test_who_asks_for_neurons_is_told_nothing(settings):
    result = purify(settings=settings)
    assert result.layers[0].flip == "neurons"
    assert told(result) == []


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_convolution_is_flipped_by_neurons_and_nothing_is_said():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 2, 3, 3))
    images, labels = rng.normal(size=(60, 2, 4, 4)), rng.integers(0, 3, 60)
    final, initial = (
        Network(
            [
                ReLU(),
                Conv2d("conv", first + rng.normal(size=first.shape), np.zeros(4)),
                ReLU(),
                Flatten(),
                Dense("fc", np.random.default_rng(1).normal(size=(3, 16)), np.zeros(3)),
            ]
        )
        for _ in range(2)
    )
    y = final.predict(images).argmax(axis=1)
    result = purify(final, initial, (images, y), layers="conv", settings=Settings(tolerance=0.05))
    assert result.layers[0].flip == "neurons"
    assert told(result) == []
    with pytest.raises(flain.LayerError, match="cannot be flipped in directions"):
        purify(final, initial, (images, labels), layers="conv", settings=DIRECTIONS)


@pytest.mark.parametrize(
    ("count", "why"), [(1, "at least 10 samples"), (30, "same for all samples")]
)
def test_samples_that_do_not_vary_are_no_error_unless_directions_are_asked_for(count, why):
    x, y = np.repeat(CLEAN[0][:1], count, axis=0), np.repeat(CLEAN[1][:1], count)
    with pytest.warns(FlainWarning):
        result = purify(data=(x, y))
    assert result.layers[0].flip == "neurons"
    assert len(told(result)) == 1
    with pytest.raises(flain.LayerError, match=why):
        purify(data=(x, y), settings=DIRECTIONS)


def test_a_layer_that_was_hardly_flipped_is_not_said_to_be_as_it_was():
    """A weak strength flips no neuron by half, and still something."""
    settings = Settings(tolerance=1e-5)
    rng = np.random.default_rng(3)
    x = CLEAN[0] + rng.normal(0, 0.6, CLEAN[0].shape).astype(np.float32)
    y = FINAL.predict(x).argmax(axis=1)
    with pytest.warns(FlainWarning, match="^hardly flipped"):
        result = purify(data=(x, y), settings=settings)
    outcome = result.layers[0]
    assert outcome.share > 0
    assert not outcome.flipped.any()
    assert not np.array_equal(result.model.layers()["fc1"].weight, FINAL.layers()["fc1"].weight)
    assert not any("as it was" in note for note in result.notes)
    assert f"in directions, at strength {outcome.threshold:.6g}" in repr(outcome)


def test_a_layer_that_stays_is_said_to_be_as_it_was():
    with pytest.warns(FlainWarning, match="^not flipped"):
        result = purify(settings=Settings(tolerance=0.0, flip="neurons", thresholds=FAR))
    assert any("'fc1': nothing was flipped; the layer is as it was" in n for n in result.notes)


FAR = flain.Grid(start=5.0, step=1.0, stop=9.0)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_the_share_of_updates_of_any_size_is_a_share(scale):
    rng = np.random.default_rng(0)
    x = rng.random((60, 6))
    first = rng.normal(size=(4, 6)) * scale
    final, initial = (Network([Dense("only", w, np.zeros(4))]) for w in (first, first * 0.5))
    y = final.predict(x).argmax(axis=1)
    settings = Settings(measure="score", flip="neurons", tolerance=0.5)
    outcome = purify(final, initial, (x, y), settings=settings).layers[0]
    assert 0 < outcome.share <= 1


def test_accuracy_steers_directions_where_the_score_is_what_counts():
    result = purify(settings=Settings(measure="score"))
    assert result.layers[0].flip == "directions"
    assert {step.loss for step in result.layers[0].steps} == {None}
    assert result.promise is None


def test_a_score_of_the_callers_steers_directions_that_know_of_no_classes():
    own = purify(score=lambda scores, y: scores.argmax(axis=1) == y)
    assert own.layers[0].flip == "directions"
    (step,) = (step for step in own.layers[0].steps if step.threshold == own.layers[0].threshold)
    assert own.before.clean - step.clean <= 0.002
    by_class = purify(settings=Settings(measure="score"))
    assert own.layers[0].threshold < by_class.layers[0].threshold


def test_directions_keep_what_crosses_where_that_is_asked_for():
    settings = Settings(flip="directions", crossing="keep")
    kept, reverted = purify(settings=settings).layers[0], purify(settings=DIRECTIONS).layers[0]
    assert (kept.flip, kept.method, kept.stop_reason) == ("directions", "incremental", "tolerance")
    assert kept.threshold > reverted.threshold


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_samples_of_one_class_are_pointed_out():
    x, y = CLEAN
    result = purify(data=(x[y == 0], y[y == 0]))
    assert any("all clean samples are of one class" in note for note in result.notes)
    assert (result.verdict, result.layers[0].stop_reason) == ("not flipped", "samples of one class")
    assert "cannot say what the others lose" in result.notes[-2]
    weights = (network.layers()["fc1"].weight for network in (FINAL, result.model))
    np.testing.assert_array_equal(*weights)
    assert not any("better than chance" in note for note in result.notes)


def flat(network):
    """The same classes, of logits so small that each has nearly the same probability."""
    *rest, last = network.operations
    small = Dense(last.name, last.weight * np.float32(1e-6), last.bias * np.float32(1e-6))
    return Network([*rest, small])


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_accuracy_lost_behind_flat_probabilities_is_pointed_out():
    by_probability = purify(flat(FINAL), flat(INITIAL), settings=Settings(measure="probability"))
    assert any('or use measure="score"' in note for note in by_probability.notes)
    assert any("leave measure out" in note for note in by_probability.warnings)
    assert by_probability.after.clean < by_probability.before.clean - 0.01
    result = purify(flat(FINAL), flat(INITIAL))
    assert any("so its accuracy steered the search" in note for note in result.notes)
    assert any("the tolerance is worth 1 of them" in note for note in result.notes)
    assert result.after.clean == pytest.approx(result.before.clean - 1 / 240)
    assert result.verdict == "flipped"
    assert result.promise


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize(
    ("flip", "memory_limit"), [("directions", 2**30), ("neurons", 2**30), ("neurons", 0)]
)
def test_an_unsure_model_is_searched_as_by_its_accuracy(flip, memory_limit):
    options = {"memory_limit": memory_limit, "layers": ["fc1", "fc2"]}
    unsure, by_accuracy = (
        purify(flat(FINAL), flat(INITIAL), settings=settings, **options)
        for settings in (
            Settings(flip=flip, held_back=0),
            Settings(flip=flip, measure="score", tolerance=1.01 / len(CLEAN[0])),
        )
    )
    assert unsure.layers[0].share > 0
    for one, other in zip(unsure.layers, by_accuracy.layers, strict=True):
        assert (one.steps, one.stop_reason) == (other.steps, other.stop_reason)
    for name in ("fc1", "fc2"):
        one, other = (each.model.layers()[name].weight for each in (unsure, by_accuracy))
        np.testing.assert_array_equal(one, other)


def test_a_model_that_scores_with_no_number_is_not_called_random():
    first, *rest = FINAL.operations
    bias = first.bias.copy()
    bias[0] = np.nan
    with pytest.raises(flain.DataError, match="NaN or infinity"):
        purify(Network([Dense(first.name, first.weight, bias), *rest]))


def test_an_input_in_other_units_switches_nothing_off():
    """The same function, with one input ten thousand times as large."""
    large = np.ones(CLEAN[0].shape[1], CLEAN[0].dtype)
    large[0] = 1e4
    arrays = [network.layers()["fc1"].weight / large for network in (FINAL, INITIAL)]
    final, initial = (
        network.replace({"fc1": weight})
        for network, weight in zip((FINAL, INITIAL), arrays, strict=True)
    )
    outcome = purify(final, initial, (CLEAN[0] * large, CLEAN[1])).layers[0]
    assert outcome.flip == "directions"
    assert outcome.stop_reason == "tolerance"
    assert outcome.threshold is not None
