"""Holders say what the model takes their samples for, and how sure it is: what one place sees."""

import re

import backdoored
import numpy as np
import pytest
from in_process import InProcess, as_elsewhere, split
from recut import Recut

import flain_core as flain
from flain_core import FlainWarning
from flain_core.federated.checks import check_answer, check_excess, readings_apart
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.federated.wire import read_answer, write_answer
from flain_core.outputs import Reading
from flain_core.score import Loss, Scored, Tally

CLEAN = backdoored.samples(400, seed=11)
INITIAL, FINAL = backdoored.networks()
RULES = ["sum", "median", "trimmed_mean"]


def weakened(x):
    return np.where(np.arange(len(x))[:, np.newaxis] % 5 == 0, x, 0.1 * x)


def unsure():
    last = list(FINAL.layers())[-1]
    return FINAL.replace({last: FINAL.layers()[last].weight / 6})


def purify(data, *, final=FINAL, rule="sum", parts=4, tamper=None, **options):
    holders = InProcess(split(data, parts)[0], tamper=tamper)
    samples = CoordinatedSamples(holders, Merging(rule))
    return flain.purify(final, initial=INITIAL, data=samples, **options)


def in_one_place(data, final=FINAL):
    return flain.purify(final, initial=INITIAL, data=data, settings=as_elsewhere())


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("rule", RULES)
def test_samples_that_the_model_takes_for_one_class_leave_it_as_it_is(rule):
    data = weakened(CLEAN[0]), CLEAN[1]
    result, expected = purify(data, rule=rule), in_one_place(data)
    assert result.verdict == "not flipped"
    assert result.layers[0].stop_reason == "too many of one class"
    assert expected.layers[0].stop_reason == "too many of one class"
    assert any("too many for class 1" in warning for warning in result.warnings)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_is_said_of_them_is_what_one_place_says():
    data = weakened(CLEAN[0]), CLEAN[1]
    told = [
        next(each for each in result.warnings if "too many for" in each)
        for result in (purify(data), in_one_place(data))
    ]
    assert told[0] == told[1]


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("rule", RULES)
def test_an_unsure_model_goes_by_its_accuracy(rule):
    result = purify(CLEAN, final=unsure(), rule=rule)
    assert result.settings.measure == "auto"
    assert not any(step.loss for step in result.layers[0].steps)
    if rule == "sum":
        expected = in_one_place(CLEAN, unsure())
        np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    assert any("so its accuracy steered the search" in warning for warning in result.warnings)


def test_a_sure_one_goes_by_its_probability():
    result = purify(CLEAN)
    assert result.settings.measure == "probability"
    assert not result.warnings


def test_a_model_that_guesses_stays_as_it_is_though_nobody_knows_the_classes():
    y = np.random.default_rng(0).permutation(CLEAN[1])
    with pytest.warns(FlainWarning, match="no better than chance"):
        result = purify((CLEAN[0], y))
    assert result.layers[0].stop_reason == "no better than chance"


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_single_liar_among_five_decides_nothing(rule, confidence):
    def lies(name, question, arrays):
        if name != "part 001" or "reading" not in arrays:
            return arrays
        return arrays | {"reading": np.array([0, 0, 0, confidence, 0, 0, 0])}

    result = purify(CLEAN, rule=rule, parts=5, tamper=lies)
    honest = purify(CLEAN, rule=rule, parts=5)
    assert result.settings == honest.settings
    np.testing.assert_array_equal(result.layers[0].flipped, honest.layers[0].flipped)


# --- Answers that cannot be ----------------------------------------------------------------------

QUESTION = Question("in full", ModelState(), loss=True)


def check(reading):
    loss = Loss(0.0, 0.0, 0, 10, 7.0, 0.0)
    answer = Answer(scored=(Scored(Tally(8, 10), loss=loss),), reading=reading)
    arrived = read_answer(write_answer(answer))
    check_answer(arrived, QUESTION, layer=None, probes=(), classify=True)
    check_excess(arrived.reading, arrived.scored[0].clean)


def reading(excess=(0.2, -0.2, 0.0), confidence=0.8, outputs="logits"):
    excess = np.array(excess)
    return Reading(outputs, False, False, confidence=confidence, classes=3, excess=excess)


def test_a_possible_reading_passes():
    check(reading())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "expected how it reads"),
        (reading(confidence=1.01), "mean probability from 0 to 1; got 1.01"),
        (reading(confidence=-0.01), "mean probability from 0 to 1"),
        (reading(confidence=float("nan")), "finite"),
        (reading(excess=(0.3, -0.3, 0.0)), "8 of 10 samples cannot be right"),
        (reading(excess=(0.1, -0.2, 0.0)), "8 of 10 samples cannot be right"),
        (reading(excess=(0.0, float("inf"), 0.0)), "finite"),
        (reading(excess=(0.0,)), "two classes or more"),
        (reading(excess=()), "two classes or more"),
    ],
)
def test_a_reading_that_no_samples_have_is_refused(given, words):
    with pytest.raises(flain.DataError, match=re.escape(words)):
        check(given)


@pytest.mark.parametrize("array", [np.zeros(7, int), np.zeros((7, 1)), np.array(["a"] * 7)])
def test_a_reading_in_another_form_is_refused(array):
    arrays = write_answer(Answer(scored=(Scored(Tally(8, 10)),), reading=reading()))
    with pytest.raises(flain.DataError, match="expected"):
        read_answer(arrays | {"reading": array})
    del arrays["reading"]
    with pytest.raises(flain.DataError, match="the same version of flain"):
        read_answer(arrays)


def test_a_holder_whose_model_has_other_classes_is_left_out():
    three, two = reading(), reading(excess=(0.0, 0.0))
    two = Reading("logits", False, False, classes=2, confidence=0.8, excess=two.excess)
    answers = {
        name: Answer(reading=each) for name, each in zip("abc", (three, two, three), strict=True)
    }
    (left_out,) = readings_apart(answers).items()
    assert left_out[0] == "b"
    assert "logits of 2 classes" in str(left_out[1])


def deceptive(cut):
    """The proof looks at fewer samples, so it does not see that the last of many are mistaken."""

    def tail(output):
        scores = np.array(cut.tail(output))
        if len(scores) > 32:
            scores[-9:] = np.roll(scores[-9:], 1, axis=1)
        return scores

    return {"tail": tail, "tail_by_sample": None}


@pytest.mark.parametrize("rule", RULES)
def test_a_cut_that_is_wrong_makes_no_holder_look_like_a_liar(rule):
    """Each first saw at the cut what samples are taken for, and more of them are wrong there."""
    final = Recut(FINAL, deceptive)
    result = purify(CLEAN, final=final, rule=rule)
    assert result.layers[0].method == "whole network"
    assert result.verdict == "flipped"
