"""Holders say what the model takes their samples for, and how sure it is: what one place sees."""

import re

import backdoored
import numpy as np
import pytest
from in_process import InProcess, as_elsewhere, split
from lies import LIES
from recut import Recut

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.federated.checks import check_answer, check_reading, readings_apart
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.federated.wire import read_answer, write_answer
from flain_core.outputs import Reading
from flain_core.tallies import Loss, Scored, Tally

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
    assert any("assigns class 1 to too many" in warning for warning in result.warnings)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_is_said_of_them_is_what_one_place_says():
    data = weakened(CLEAN[0]), CLEAN[1]
    told = [
        next(each for each in result.warnings if "assigns class 1 to too many" in each)
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


def test_an_unsure_one_goes_by_its_probability_where_that_was_asked_for():
    settings = Settings(measure="probability")
    with pytest.warns(FlainWarning, match="leave measure out"):
        result = purify(CLEAN, final=unsure(), settings=settings)
    assert all(step.loss is not None for step in result.layers[0].steps)


def test_what_was_stated_is_not_said_to_be_recognised():
    samples = CoordinatedSamples(InProcess(split(CLEAN, 3)[0]), outputs="logits")
    result = flain.purify(FINAL, initial=INITIAL, data=samples)
    assert not any("read as" in note for note in result.notes)


def lying(lie, *who):
    def tamper(name, question, arrays):
        if name not in who:
            return arrays
        return write_answer(lie(question, read_answer(arrays)))

    return tamper


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("who", ["part 000", "part 004"])
@pytest.mark.parametrize("lie", ["all of another class", "always perfect", "huge sample count"])
@pytest.mark.parametrize("final", [FINAL, unsure()], ids=["sure", "unsure"])
def test_a_single_liar_among_five_decides_nothing(rule, who, lie, final):
    result = purify(CLEAN, final=final, rule=rule, parts=5, tamper=lying(LIES[lie], who))
    honest = purify(CLEAN, final=final, rule=rule, parts=5)
    assert result.settings == honest.settings
    assert result.layers[0].stop_reason == honest.layers[0].stop_reason
    assert (result.verdict, honest.verdict) == ("flipped", "flipped")


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_a_huge_count_does_not_make_luck_smaller(rule):
    """A quarter and luck too many of a class is less with more samples."""
    counts = [17, 17, 17, 17, 17 * 2**40]
    honest, lying = (
        Merging(rule).scored([Scored(Tally(8 * each // 17, each)) for each in some]).clean
        for some in (counts[:1] * 5, counts)
    )
    assert honest == lying


def test_a_holder_that_says_what_it_cannot_have_seen_is_left_out():
    def tamper(name, question, arrays):
        if name != "part 001" or "reading" not in arrays:
            return arrays
        return arrays | {"reading": np.array([0, 0, 0, 0.9, 1, -1, 0])}

    holders = InProcess(split(CLEAN, 3)[0], tamper=tamper)
    with pytest.warns(FlainWarning, match="part 001.* is left out .* too many for a class"):
        flain.purify(FINAL, initial=INITIAL, data=CoordinatedSamples(holders, may_leave=True))


# --- How readings are merged ---------------------------------------------------------------------


def told(excess, confidence=0.8, **flags):
    return Reading(
        "logits", False, False, confidence=confidence, classes=2, excess=np.array(excess), **flags
    )


def tallies(*counts):
    return [Tally(0, count) for count in counts]


def test_by_the_sum_every_sample_counts_once():
    merged = Merging().reading([told([0.1, -0.1], 0.9), told([-0.1, 0.1], 0.7)], tallies(10, 30))
    np.testing.assert_array_equal(merged.excess, [-0.05, 0.05])
    assert merged.confidence == pytest.approx(0.75)


def test_and_no_holder_for_more_than_its_share():
    readings = [told([0.0, 0.0]), told([0.0, 0.0]), told([1.0, -1.0], 0.5)]
    merged = Merging().reading(readings, tallies(10, 10, 1000))
    np.testing.assert_allclose(merged.excess, [0.5, -0.5])
    assert merged.confidence == pytest.approx(0.65)


def test_the_median_takes_each_number_from_the_middle():
    readings = [told([0.0, 0.0], 0.9), told([0.1, -0.1], 0.8), told([1.0, -1.0], 0.0)]
    merged = Merging("median").reading(readings, tallies(10, 10, 1000))
    np.testing.assert_allclose(merged.excess, [0.1, -0.1])
    assert merged.confidence == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("rule", "how_many", "doubtful"),
    [("sum", 3, True), ("sum", 2, False), ("median", 2, True), ("median", 1, False)],
)
def test_scores_are_doubtful_if_they_are_to_all_or_to_most(rule, how_many, doubtful):
    readings = [told([0.0, 0.0], doubtful=number < how_many) for number in range(3)]
    assert Merging(rule).reading(readings, tallies(10, 10, 10)).doubtful == doubtful


@pytest.mark.parametrize(("how_many", "decided"), [(2, True), (1, False)])
def test_and_decided_if_they_are_to_most(how_many, decided):
    readings = [told([0.0, 0.0], decided=number < how_many) for number in range(3)]
    assert Merging().reading(readings, tallies(10, 10, 10)).decided == decided


# --- Answers that cannot be ----------------------------------------------------------------------

QUESTION = Question("in full", ModelState(), loss=True)


def check(reading):
    loss = Loss(0.0, 0.0, 0, 10, 7.0, 0.0)
    answer = Answer(scored=(Scored(Tally(8, 10), loss=loss),), reading=reading)
    arrived = read_answer(write_answer(answer))
    check_answer(arrived, QUESTION, layer=None, probes=(), classify=True)
    check_reading(arrived.reading, arrived.scored[0])


def reading(excess=(0.2, -0.2, 0.0), confidence=0.8, outputs="logits"):
    excess = np.array(excess)
    return Reading(outputs, False, False, confidence=confidence, classes=3, excess=excess)


def test_a_possible_reading_passes():
    check(reading())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "expected how it reads"),
        (reading(confidence=1.01), "from 0 to 1"),
        (reading(confidence=-0.01), "from 0 to 1"),
        (reading(confidence=float("nan")), "from 0 to 1"),
        (reading(confidence=0.65), "mean probability of 0.65, which by its other answers is from"),
        (reading(confidence=0.95), "is from 0.7 to 0.9"),
        (reading(excess=(0.3, -0.3, 0.0)), "8 of 10 samples are right"),
        (reading(excess=(0.1, -0.2, 0.0)), "8 of 10 samples are right"),
        (reading(excess=(0.15, -0.15, 0.0)), "8 of 10 samples are right"),
        (reading(excess=(0.0, float("inf"), 0.0)), "beyond"),
        (reading(excess=(1e308, 1e308, -1e308)), "beyond"),
        (reading(excess=(0.0,)), "two classes or more"),
        (reading(excess=()), "two classes or more"),
    ],
)
def test_a_reading_that_no_samples_have_is_refused(given, words):
    with pytest.raises(flain.DataError, match=re.escape(words)):
        check(given)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(7, int),
        np.zeros((7, 1)),
        np.array(["a"] * 7),
        np.array([0, 0, 0, 0.5, 0, 0, 0, np.longdouble("1e4000")]),
    ],
)
def test_a_reading_in_another_form_is_refused(array):
    arrays = write_answer(Answer(scored=(Scored(Tally(8, 10)),), reading=reading()))
    with pytest.raises(flain.DataError, match="expected"):
        read_answer(arrays | {"reading": array})
    del arrays["reading"]
    with pytest.raises(flain.DataError, match="the same version of flain"):
        read_answer(arrays)


def test_rounding_excuses_what_it_explains():
    """Two of ten are wrong, and perhaps a third."""
    near = Scored(Tally(8, 10, uncertain=1), loss=Loss(0.0, 0.0, 0, 10, 7.0, 0.0))
    check_reading(reading(excess=(0.3, -0.3, 0.0)), near)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (told([0.0, 0.0]), "logits of 2 classes"),
        (Reading("logits", True, False, classes=3, excess=np.zeros(3)), "logits of one score"),
        (None, "worth of its own"),
    ],
)
def test_a_holder_that_scores_something_else_is_left_out(other, words):
    answers = {name: Answer(reading=reading()) for name in "abc"} | {"b": Answer(reading=other)}
    (left_out,) = readings_apart(answers).items()
    assert left_out[0] == "b"
    told_of = f"as {words}, and others as logits of 3 classes: holders do not agree on that. Do all"
    assert told_of in str(left_out[1])


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
