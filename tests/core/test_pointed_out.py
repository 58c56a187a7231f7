"""What the one call does not refuse, and says that it looks wrong."""

import warnings
from dataclasses import replace

import backdoored
import numpy as np
import pytest
from backdoored_purified import CLEAN, purify
from by_neurons import BY_NEURONS, by_neurons

import flain_core as flain
import flain_numpy
from flain_core import FlainWarning, Grid, Settings
from flain_core.outcome import notes
from flain_core.outcome.measurement import ClassOutcome
from flain_core.per_layer import Purified
from flain_core.tallies import Loss, Scored, Tally


@pytest.fixture(scope="module")
def pair():
    return backdoored.networks()


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


@pytest.mark.parametrize(("lost", "is_told"), [(20, False), (23, True)])
def test_a_loss_is_held_against_what_was_allowed_for_the_share_of_a_class(pair, lost, is_told):
    """The limit is 0.0121 here, and a point of accuracy beyond it is pointed out."""
    (outcome,) = purify(pair).layers
    before, after = Scored(Tally(1000, 1000)), Tally(1000 - lost, 1000)
    loss = Loss(total=10.0, square=1.0, count=1000, before=990.0)
    purified = Purified(
        pair[1], (replace(outcome, class_share=0.1),), before, Scored(after, loss=loss)
    )
    told = [str(note) for note in notes._on_result(purified, Settings())]
    assert any("far beyond the tolerance of 1.21%" in note for note in told) == is_told


@pytest.mark.filterwarnings("ignore:a tolerance of:flain_core.FlainWarning")
def test_too_few_samples_are_pointed_out(pair):
    with pytest.warns(FlainWarning, match="5 clean samples are too few"):
        purify(pair, data=(CLEAN[0][:5], CLEAN[1][:5]), settings=Settings(tolerance=0.5))


def test_one_hot_labels_are_accepted_with_a_note(pair):
    result = purify(pair, data=(CLEAN[0], np.eye(3)[CLEAN[1]]))
    assert any("one-hot" in note for note in result.notes)
    result = purify(pair, data=(CLEAN[0], np.eye(3)[CLEAN[1]]), settings=BY_NEURONS)
    assert any("one-hot" in note for note in result.notes)
    assert any("0.3333%" in note for note in result.notes)


@pytest.mark.filterwarnings("ignore:a tolerance of:flain_core.FlainWarning")
@pytest.mark.filterwarnings("ignore:some classes lost:flain_core.FlainWarning")
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
        warnings.filterwarnings("ignore", "a tolerance of|some classes lost")
        flain.purify(
            shifted(pair[1]),
            initial=shifted(pair[0]),
            data=(x, y),
            settings=by_neurons(0.3, statistic="mean_abs"),
        )


@pytest.mark.parametrize(
    ("copies", "settings", "noted"),
    [
        (5, None, True),
        (2, None, True),
        (1, None, False),
        (5, Settings(flip="neurons"), False),
        (5, Settings(measure="score"), True),
        (5, BY_NEURONS, False),
    ],
)
def test_samples_of_which_most_are_copies_are_pointed_out(pair, copies, settings, noted):
    """In directions a sample is left out of a fit, and its copies are not."""
    few = tuple(np.repeat(part[: 200 // copies], copies, axis=0) for part in CLEAN)
    notes = purify(pair, data=few, settings=settings).notes
    assert any("100% of the clean samples are copies" in note for note in notes) is noted


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ([0, 0, 0], []),
        ([4, 4, 4], []),  # alike
        ([9, 0, 0], ["class 0 (90 of 90 right before, 81 after)"]),
        ([5, 0, 0], []),  # less than a tenth
        ([0, 45, 45], ["class 1", "class 2"]),
        ([0, 0, -9], []),  # gained
        ([9, -60, 0], ["class 0"]),  # what another gained explains no loss
    ],
)
def test_a_class_that_lost_far_more_than_the_others_is_pointed_out(lost, named):
    by_class = [ClassOutcome(label, 90, 90, 90 - its) for label, its in enumerate(lost)]
    told = list(notes._on_what_classes_lost(by_class))
    assert len(told) == bool(named)
    for each in told:
        assert isinstance(each, FlainWarning)
        assert str(each).count("class ") == len(named)
        assert all(name in str(each) for name in named)


def test_a_class_of_few_samples_may_lose_one_by_chance():
    few = ClassOutcome(7, 2, 2, 1)
    assert not list(notes._on_what_classes_lost([few, ClassOutcome(1, 90, 90, 90)]))
    # One of ten classes loses two of twenty by chance, as it would seldom happen to a given one.
    rest = [ClassOutcome(label, 20, 20, 20) for label in range(9)]
    assert not list(notes._on_what_classes_lost([ClassOutcome(9, 20, 20, 18), *rest]))
    assert list(notes._on_what_classes_lost([ClassOutcome(9, 20, 20, 17), *rest]))
    assert not list(notes._on_what_classes_lost([ClassOutcome(1, 90, 90, 5)]))  # the only one
    assert not list(notes._on_what_classes_lost([]))


@pytest.mark.parametrize(("samples", "told"), [(10, False), (9, True), (1, True)])
def test_few_samples_of_the_class_that_is_flipped_most_strongly_are_pointed_out(
    pair, samples, told
):
    result = purify(pair, settings=Settings(flip="directions"))
    (layer,) = result.layers
    assert layer.most_flipped_class == backdoored.TARGET
    by_class = [ClassOutcome(layer.most_flipped_class, samples, samples, samples)]
    found = list(notes._on_few_of_a_class(result.layers, by_class))
    assert len(found) == told
    if told:
        assert f"speaks for class {layer.most_flipped_class} in" in found[0]
        assert f"saw only {samples} of class {layer.most_flipped_class}" in found[0]
    assert not list(notes._on_few_of_a_class([replace(layer, share=0.0)], by_class))
    assert not list(notes._on_few_of_a_class([replace(layer, most_flipped_class=None)], by_class))
