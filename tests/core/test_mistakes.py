"""What is easily typed or given wrong, and what is said of it.

Each mistake was made by somebody; what counts is that a sentence names the cause and the remedy.
"""

import re
import warnings

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.outputs import Reading
from flain_numpy import Dense, Network, Tanh, arrays_of

CLEAN = backdoored.samples(400, seed=11)
ASR = backdoored.triggered(300, seed=12)
INITIAL, FINAL = backdoored.networks()


def purify(data=CLEAN, **options):
    return flain.purify(FINAL, initial=INITIAL, data=data, **options)


def only(samples, *classes):
    x, y = samples
    return x[np.isin(y, classes)], y[np.isin(y, classes)]


def said(notes, words):
    return [note for note in notes if words in note]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: flain.purify(FINAL, INITIAL, CLEAN), "purify(final, initial=initial, data=data)"),
        (lambda: flain.purify(FINAL, INITIAL, data=CLEAN), "got 2 arguments without a name"),
        (lambda: purify(tolerance=0.01), "say settings=flain.Settings(tolerance=0.01)"),
        (lambda: purify(flip="neurons"), "say settings=flain.Settings(flip='neurons')"),
        (lambda: purify(probe={}), "Did you mean 'probes'?"),
        (lambda: flain.purify(FINAL, data=CLEAN), "purify() lacks initial; type purify(final"),
        (lambda: flain.purify(FINAL), "lacks initial and data"),
        (lambda: flain.purify(), "lacks model and initial and data"),
        (lambda: flain.purify(FINAL, model=FINAL, initial=INITIAL, data=CLEAN), "multiple values"),
        (
            lambda: flain.purify_arrays([], [], INITIAL, data=CLEAN, tolerance=0.01),
            "say settings=flain.Settings(tolerance=0.01)",
        ),
    ],
)
def test_a_call_of_another_form_is_told_what_to_type(call, words):
    with pytest.raises(TypeError) as raised:
        call()
    assert words in str(raised.value)


@pytest.mark.parametrize("tolerance", [0.06, 0.2, 1, 1.0])
@pytest.mark.filterwarnings("ignore:no candidate:flain_core.FlainWarning")
@pytest.mark.filterwarnings("ignore:some classes lost:flain_core.FlainWarning")
def test_a_tolerance_in_per_cent_is_pointed_out(tolerance):
    with pytest.warns(FlainWarning, match=r"a fraction, so 0.2 % is tolerance=0.002"):
        purify(settings=Settings(tolerance=tolerance))


def test_an_ordinary_tolerance_is_not():
    purify(settings=Settings(tolerance=0.05))
    purify(settings=Settings(tolerance=0.3, promise=0.05))


@pytest.mark.filterwarnings("ignore:(no candidate|hardly|not flipped):flain_core.FlainWarning")
def test_classes_that_are_missing_are_pointed_out():
    data = only(backdoored.samples(900, seed=11), 0, 1)
    with pytest.warns(FlainWarning, match="are of 2 of the model's 3 classes.*the other loses"):
        result = purify(data, settings=Settings(flip="neurons"))
    x, y = backdoored.samples(2000, seed=13)
    assert (result.model.predict(x).argmax(axis=1) == y).mean() < 0.8  # what it is good for
    with pytest.warns(FlainWarning, match="all clean samples are of one class"):
        purify(only(backdoored.samples(900, seed=11), 0))


@pytest.mark.filterwarnings("ignore:hardly flipped:flain_core.FlainWarning")
def test_classes_that_a_random_draw_leaves_out_are_not():
    """Of 200 classes 300 samples show some 155."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 30)).astype(np.float32)
    y = rng.integers(0, 200, 300)
    x = centres[y] + 0.1 * rng.normal(size=(300, 30)).astype(np.float32)
    final = Network([Dense("fc", centres)])
    initial = Network([Dense("fc", centres * np.float32(0.1))])
    assert len(np.unique(y)) < 170
    result = flain.purify(final, initial=initial, data=(x, y))
    assert not said(result.notes, "classes")


@pytest.mark.parametrize("count", [20, 50, 74])
def test_few_samples_are_pointed_out(count):
    with pytest.warns(FlainWarning, match=f"{count} clean samples are too few .* a few hundred"):
        purify(backdoored.samples(count, seed=11))


@pytest.mark.filterwarnings("ignore:partly flipped:flain_core.FlainWarning")
def test_auxiliary_samples_that_carry_the_trigger_are_pointed_out():
    data = [np.concatenate(parts) for parts in zip(CLEAN, ASR, strict=True)]
    with pytest.warns(FlainWarning, match="'ASR' scores 100.0% before and 100.0% after: the back"):
        purify(tuple(data), probes={"ASR": ASR}, settings=flain.Settings(factor=2, tolerance=0.01))


def test_a_probe_with_the_true_classes_as_labels_is_pointed_out():
    x, y = backdoored.samples(300, seed=14)
    x[:, 9:] = 1.0
    with pytest.warns(FlainWarning, match="labels of 3 classes.*the more the better.*attacker's"):
        purify(probes={"ASR": (x, y)})
    purify(probes={"robust accuracy": (x, y)})


def test_samples_of_the_target_class_in_a_probe_are_explained():
    x, y = backdoored.samples(300, seed=14)
    x[:, 9:] = 1.0
    labels = np.full_like(y, backdoored.TARGET)
    result = purify(probes={"ASR": (x, labels)}, settings=flain.Settings(factor=2))
    assert result.after.probes["ASR"] > 0.2
    assert said(result.notes, "whose own class is the target are given it rightly")
    assert not said(purify(probes={"ASR": ASR}).notes, "whose own class")


def test_labels_that_are_no_places_in_the_scores_are_told_how_to_become_some():
    with pytest.raises(flain.DataError, match=r"from 0 to 2.*np.searchsorted\(classes, y\)"):
        purify((CLEAN[0], CLEAN[1] + 1))


def tanh_networks():
    """Behind saturated neurons of 'first', every input of 'second' is negative."""

    def network(seed):
        rng = np.random.default_rng(seed)
        bias = np.full(6, -50.0)
        first, second = rng.normal(size=(6, 12)), rng.normal(size=(3, 6))
        return Network([Dense("first", first, bias), Tanh(), Dense("second", second)])

    return network(0), network(1)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("layers", [["first", "second"], ["second", "first"]])
def test_a_layer_without_low_neurons_is_left_out_with_a_note(layers):
    initial, final = tanh_networks()
    settings = Settings(flip="neurons", measure="score")
    data = CLEAN[0], final.predict(CLEAN[0]).argmax(axis=1)
    result = flain.purify(final, initial=initial, data=data, layers=layers, settings=settings)
    outcomes = {layer.name: layer for layer in result.layers}
    assert outcomes["second"].stop_reason == "all negative"
    assert outcomes["first"].share > 0
    assert said(result.notes, "'second' was left out: every input neuron has a negative mean")
    with pytest.raises(flain.LayerError, match="mean_abs"):
        flain.purify(final, initial=initial, data=data, layers="second", settings=settings)


@pytest.mark.parametrize(("wrong", "flip"), [(1, "auto"), (2, "neurons")])
def test_samples_that_cannot_steer_leave_the_model_as_it_is(wrong, flip):
    x, y = CLEAN
    with pytest.warns(FlainWarning) as raised:
        result = purify(data=(x, (y + wrong) % 3), settings=Settings(flip=flip))
    assert result.verdict == "not flipped"
    assert result.promise is None
    assert result.layers[0].stop_reason == "no better than chance"
    assert "after 0 candidates" in repr(result)
    assert said(result.notes, "cannot say when to stop")
    assert len(raised) == 2
    np.testing.assert_array_equal(result.model.predict(x), FINAL.predict(x))


def test_a_model_that_knows_something_is_purified():
    x, y = CLEAN
    y = np.where(np.random.default_rng(0).random(len(y)) < 0.5, (y + 1) % 3, y)
    with pytest.warns(FlainWarning, match="right about only 5") as raised:
        result = purify(data=(x, y), settings=Settings(measure="score"))
    assert result.layers[0].steps
    assert len(raised) == 1


def weakened(x):
    return np.where(np.arange(len(x))[:, np.newaxis] % 4 == 0, x, 0.1 * x)


def test_samples_that_the_model_takes_for_one_class_leave_it_as_it_is():
    """Some of their inputs are so weak that only the biases count."""
    x, y = CLEAN
    weak = weakened(x)
    taken = FINAL.predict(weak).argmax(axis=1)
    assert 0.45 < np.mean(taken == y) < 0.5
    with pytest.warns(FlainWarning) as raised:
        result = purify(data=(weak, y))
    assert result.verdict == "not flipped"
    assert result.promise is None
    assert result.layers[0].stop_reason == "too many of one class"
    assert said(result.warnings, "assigns class 1 to too many clean samples, by 52% of them all")
    assert said(result.notes, "takes far too many for one class cannot say when")
    assert said(result.notes, "nothing is promised")
    assert len(raised) == 2
    np.testing.assert_array_equal(result.model.predict(x), FINAL.predict(x))


def test_by_its_accuracy_a_model_is_purified_all_the_same():
    x, y = CLEAN
    with pytest.warns(FlainWarning, match=r'by 51% of .* say measure="score"'):
        result = purify(data=(weakened(x), y), settings=Settings(measure="score"))
    assert result.layers[0].steps


def test_a_label_too_great_is_found_among_samples_that_are_held_back_too():
    """Of samples about which the model is mostly wrong, nobody asks later."""
    x, y = CLEAN
    wrong = np.where(np.random.default_rng(0).random(len(y)) < 0.58, (y + 1) % 3, y)
    for place in range(0, len(y), 40):
        labels = wrong.copy()
        labels[place] = 7
        with pytest.raises(flain.DataError, match=r"expected labels from 0 to 2, .* got 7"):
            purify(data=(x, labels))


def told_of(right, sure):
    """Return the warnings on a model that is right and sure so often, as fractions."""
    x, y = CLEAN
    wrong = np.random.default_rng(0).random(len(y)) >= right
    says = np.where(wrong, (y + 1) % 3, y)
    # A model that looks its classes up, in three further inputs that training has not changed.
    scores = np.log(np.array([sure, (1 - sure) / 2, (1 - sure) / 2]))
    told = np.stack([np.roll(scores, k) for k in range(3)])[says]
    weight = np.zeros((3, 3 + x.shape[1]))
    weight[:, :3] = np.eye(3)
    trained = weight.copy()
    trained[:, -1] = 1e-3
    data = np.concatenate([told, 0 * x], axis=1), y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        final, initial = (Network([Dense("scores", each)]) for each in (trained, weight))
        return flain.purify(final, initial=initial, data=data).warnings


@pytest.mark.parametrize(
    ("right", "sure", "words"),
    [
        (0.95, 0.65, "about 9.% .* of only 65% on average, so its accuracy steered .* scaled"),
        (0.95, 0.78, None),
        (0.95, 0.999, None),
        (0.7, 0.95, None),
        (0.6, 0.98, "of 98% on average, .* right about only .* labelled rightly"),
    ],
)
def test_how_sure_a_model_is_is_compared_with_how_often_it_is_right(right, sure, words):
    told = [note for note in told_of(right, sure) if "on average" in note]
    assert len(told) == (words is not None)
    assert not words or re.search(words, told[0])


def test_of_twenty_samples_six_too_many_of_a_class_may_be_luck():
    scores = np.eye(4)[[0] * 11 + [1, 1, 2, 2, 3, 3, 3, 3, 3]]
    reading = Reading.of(scores, "probabilities", np.arange(20) % 4)
    assert reading.favoured(0.4, 20) is None
    assert reading.favoured(0.4, 800) == 0


@pytest.mark.filterwarnings("ignore:partly flipped:flain_core.FlainWarning")
def test_a_model_that_is_less_sure_than_it_is_right_is_pointed_out():
    """So it is with samples that nobody scaled as in training. Accuracy stops the search early."""
    last = list(FINAL.layers())[-1]
    unsure = FINAL.replace({last: FINAL.layers()[last].weight / 7})
    y = unsure.predict(CLEAN[0]).argmax(axis=1)
    with pytest.warns(FlainWarning, match="about 100% .* of only 6.% .* steered the search: were"):
        result = flain.purify(unsure, initial=INITIAL, data=(CLEAN[0], y), probes={"ASR": ASR})
    assert result.after.probes["ASR"] == 0
    by_accuracy = Settings(measure="score")
    result = flain.purify(unsure, initial=INITIAL, data=(CLEAN[0], y), settings=by_accuracy)
    assert said(result.notes, "were they scaled as in training?")
    assert not result.warnings


def test_of_an_ordinary_model_nothing_is_said_about_its_samples():
    assert not purify().warnings


def test_scores_far_apart_are_pointed_out():
    x, y = CLEAN
    with pytest.warns(FlainWarning, match="scaled as in training"):
        result = purify(data=(255 * x, y))
    assert not said(result.notes, "as pixels do")
    assert not said(purify().notes, "scaled as in training")


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_pixels_that_nobody_scaled_are_pointed_out():
    x, y = CLEAN
    pixels = np.round(255 * np.abs(x) / np.abs(x).max())
    assert said(purify(data=(pixels, y)).notes, "whole numbers from 0 to 255")
    for other in (np.round(x), -pixels, pixels + 0.5, 2 * pixels):
        assert not said(purify(data=(other, y)).notes, "whole numbers from 0 to 255")


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_samples_of_one_class_that_the_model_gets_wrong_leave_it_as_it_is():
    x, y = CLEAN
    result = purify((x[y == 0], y[y == 0] + 1))
    assert said(result.warnings, "no better than chance")
    assert result.verdict == "not flipped"
    np.testing.assert_array_equal(result.model.predict(x), FINAL.predict(x))


def test_a_probe_that_rises_is_pointed_out():
    """As where the initial model is the trained one's purified self, or the mark got lost."""
    purified = purify().model.layers()["fc1"]
    lost = FINAL.replace({"fc1": purified.weight.copy()}, {"fc1": purified.bias.copy()})
    with pytest.warns(FlainWarning, match=r"0\.0% before.*a backdoor was brought back"):
        flain.purify(lost, initial=INITIAL, data=CLEAN, probes={"ASR": ASR}, again=True)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"held_back": 0}, "held_back=0 holds none back"),
        ({"held_back": 1e-9}, "held_back=1e-09 holds none back"),
        ({}, None),
    ],
)
def test_why_nothing_is_promised(settings, why):
    notes = purify(settings=Settings(**settings)).notes
    assert said(notes, "nothing is promised of new samples: ") == (
        [f"nothing is promised of new samples: {why}"] if why else []
    )


@pytest.mark.parametrize("factor", [1e-9, 1e-300])
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_flip_that_moves_no_scores_removes_nothing(factor):
    result = purify(settings=Settings(factor=factor))
    assert result.verdict in ("hardly flipped", "not flipped")
    assert said(result.warnings, "does not move the scores")
    assert not said(result.notes, "directions need")


@pytest.mark.parametrize("factor", [1e300, -1e300])
def test_samples_beyond_the_models_range_are_named(factor):
    x, y = CLEAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(flain.DataError, match=r"in the range of float32.*up to \d.*scale"):
            purify((x.astype(np.float64) * factor, y))


def test_how_numpy_is_told_to_treat_errors_changes_nothing():
    x, y = CLEAN
    with np.errstate(all="raise"):
        result = purify((x.astype(np.float64), y))
        with pytest.warns(FlainWarning):
            purify((x.astype(np.float64) * 1e-300, y))
    np.testing.assert_array_equal(result.layers[0].flipped, purify().layers[0].flipped)


def test_a_score_whose_sum_is_too_large_is_told_so():
    with pytest.raises(flain.DataError, match=r"sum of what the score function.*up to 1\.0e\+308"):
        purify(score=lambda scores, y: np.full(len(y), 1e308))


def test_a_warning_points_to_the_code_that_called():
    few = CLEAN[0][:50], CLEAN[1][:50]
    arrays = arrays_of(INITIAL), arrays_of(FINAL)
    for call in (
        lambda: purify(few),
        lambda: flain.purify_arrays(*arrays, FINAL, data=few),
    ):
        with pytest.warns(FlainWarning) as told:
            call()
        assert {warning.filename for warning in told} == {__file__}
