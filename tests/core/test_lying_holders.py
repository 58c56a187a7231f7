"""What holders of auxiliary samples might try, beyond answers that nobody could have."""

import backdoored
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from in_process import InProcess, as_elsewhere, split

import flain_core as flain
from flain_core import ActivationStatistics, FlainWarning, Settings
from flain_core.conformance.never_cut import never_cut
from flain_core.federated.checks import check_answer
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import Holder
from flain_core.federated.merging import Merging
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.federated.wire import read_answer, write_answer
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.network import Layer
from flain_core.tallies import Scored, Tally

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()
PARTS, SIZE = split(CLEAN, 5)
LAYER = Layer("fc1", "dense", np.zeros((2, 12), np.float32))
TRIGGER = np.arange(12) >= 9


def purify(tamper, *, final=FINAL, settings=None, **options):
    """With the second of five holders, and what it answers changed."""

    def second(name, question, arrays):
        return tamper(question, dict(arrays)) if name == "part 001" else arrays

    holders = InProcess(PARTS, lookahead=50, tamper=second)
    data = CoordinatedSamples(holders, may_leave=True, least=3, **options)
    return flain.purify(final, initial=INITIAL, data=data, settings=settings), holders


def without_the_second(final=FINAL, **options):
    x, y = (np.concatenate([part[i] for part in (PARTS[0], *PARTS[2:])]) for i in (0, 1))
    return in_one_place((x, y), final, **options)


def in_one_place(data, final=FINAL, settings=None, **options):
    settings = as_elsewhere(settings)
    return flain.purify(
        final, initial=INITIAL, data=data, batch_size=SIZE, settings=settings, **options
    )


def assert_same_flips(result, expected):
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)


# --- Answers that no samples can have ------------------------------------------------------------


def seen(**changes):
    """Statistics of twelve neurons: ten values of 2 each, four of them negative."""
    arrays = {
        "total": np.full(12, 4.0),
        "total_abs": np.full(12, 20.0),
        "total_square": np.full(12, 40.0),
        "active": np.full(12, 6),
    }
    return ActivationStatistics(**{"count": 10} | arrays | changes)


def check_statistics(statistics):
    question = Question("statistics", ModelState(layer="fc1"))
    answer = read_answer(write_answer(Answer(statistics=statistics)))
    check_answer(answer, question, layer=LAYER, probes=(), classify=True)


IMPOSSIBLE = {
    "as many samples as overflow a sum over holders": {
        "count": 2**62,
        "active": np.full(12, 2**61),
    },
    "squares that become infinite in a sum": {
        "total_square": np.full(12, 1.7e308),
        "total_abs": np.full(12, 1.4e154),
    },
    "sizes that become infinite when they are compared": {
        "total": np.full(12, -1.7e308),
        "total_abs": np.full(12, 1.7e308),
        "total_square": np.full(12, 1.7e308),
    },
    "squares that the sizes exclude": {"total_square": np.full(12, 401.0)},
    "a positive sum, and nothing above zero": {"active": np.full(12, 0)},
    "a negative part, and nothing below zero": {"active": np.full(12, 10)},
    "a larger sum than so few values above zero can have": {"active": np.full(12, 3)},
    "numbers that only a wider type holds": {"total": np.full(12, np.longdouble("1e4000"))},
}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Scored(Tally(9, 10)), Scored(Tally(9, 11))),
        (Scored(Tally(9, 10), {"ASR": Tally(2, 3)}), Scored(Tally(9, 10), {"ASR": Tally(2, 4)})),
        (Scored(Tally(9, 10), {"ASR": Tally(2, 3)}), Scored(Tally(9, 10))),
    ],
)
def test_samples_that_come_and_go_between_candidates_are_refused(first, second):
    question = Question("candidates", ModelState(layer="fc1"), (3, 5))
    answer = Answer(scored=(first, second))
    with pytest.raises(flain.DataError, match="changes from candidate to candidate"):
        check_answer(answer, question, layer=LAYER, probes=("ASR",), classify=True)


def test_the_statistics_that_are_changed_here_are_possible():
    check_statistics(seen())


@pytest.mark.parametrize(
    ("task", "refused"),
    [
        ("statistics", "expected statistics alone; got scores too"),
        ("proof", "expected proof alone; got statistics and scores too"),
        ("candidates", "expected scores alone; got statistics too"),
        ("in full", "expected scores alone; got statistics too"),
    ],
)
def test_what_nobody_asked_for_is_refused(task, refused):
    question = Question(task, ModelState(layer="fc1"))
    answer = Answer(statistics=seen(), scored=(Scored(Tally(9, 10)),))
    with pytest.raises(flain.DataError, match=refused):
        check_answer(answer, question, layer=LAYER, probes=(), classify=True)


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_statistics_that_no_activations_have_are_refused(changes):
    with pytest.raises(flain.DataError, match=r"expected|contradict"):
        check_statistics(seen(**changes))


@given(
    npst.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 9), st.just(12), st.integers(1, 4)),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": -6e4, "max_value": 6e4},
    ),
    st.sampled_from([1.0, 1e-30, 1e-200, 1e-310]),
)
def test_those_that_activations_have_are_accepted(inputs, scale):
    scale = scale if inputs.dtype == np.float64 else 1
    check_statistics(ActivationStatistics().update(inputs * inputs.dtype.type(scale)))


@pytest.mark.parametrize("error", [np.nan, np.inf, -1e-5, 0.5])
def test_a_cut_cannot_be_called_faithful_with_any_error(error):
    """The error says which samples are near a tie: an infinite one would make all of them so."""

    def lie(question, arrays):
        return arrays | {"error": np.array(error)} if question.task == "proof" else arrays

    with pytest.warns(FlainWarning, match="part 001, .* expected a faithful cut to have an error"):
        result, _ = purify(lie)
    assert_same_flips(result, without_the_second())


@pytest.mark.parametrize("uncertain", [1e9, 0.5])
def test_no_more_samples_can_be_uncertain_than_there_are(uncertain):
    def lie(question, arrays):
        if question.task == "candidates":
            arrays["clean"] = arrays["clean"] + np.array([0, 0, uncertain])
        return arrays

    with pytest.warns(FlainWarning, match="part 001, .* whole numbers of samples"):
        result, _ = purify(lie)
    assert_same_flips(result, without_the_second())


# --- Answers that contradict each other ----------------------------------------------------------


def all_well(arrays):
    arrays["clean"] = arrays["clean"][:, [1, 1, 2]]
    if "loss" in arrays:
        arrays["loss"] = arrays["loss"] * np.array([0, 0, 0, 1, 1, 1])
    return arrays


def all_lost(arrays):
    arrays["clean"] = arrays["clean"] * np.array([0, 1, 1])
    if "loss" in arrays:
        # All that the trained model gave to the true classes, and alike of each sample.
        count, before = arrays["loss"][:, 3], arrays["loss"][:, 4]
        rest = [count, count, before, 0 * count]
        arrays["loss"] = np.stack([before, before**2 / count, *rest], axis=1)
    return arrays


def two_faced(question, arrays):
    """All is well while the search runs, and nothing once the purified model is run."""
    if question.task == "candidates":
        return all_well(arrays)
    return all_lost(arrays) if "clean" in arrays else arrays


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("rule", ["sum", "median", "trimmed_mean"])
def test_who_contradicts_itself_cannot_keep_a_model_from_being_confirmed(rule, measure):
    settings = Settings(tolerance=0.02, measure=measure)
    with pytest.warns(FlainWarning, match="part 001, .* scores 60, and then 0"):
        result, _ = purify(two_faced, settings=settings, merging=Merging(rule))
    assert result.layers[0].method == "incremental"
    assert result.layers[0].flipped[TRIGGER].all()


def test_nor_one_that_says_of_losses_alone_two_things():
    def lie(question, arrays):
        if question.task != "candidates" or question.n_flipped == (0,):
            return arrays
        rows = arrays["loss"]
        lost = -0.9 * (rows[:, 3] - rows[:, 4])
        arrays["loss"] = np.stack([lost, lost**2, *rows.T[2:5], 0 * lost], axis=1)
        return arrays

    with pytest.warns(FlainWarning, match=r"part 001, .* loses -\d.*, and then"):
        result, _ = purify(lie)
    assert_same_flips(result, without_the_second())


def all_uncertain(question, arrays):
    """Calls every sample uncertain, and so has all run in full, and contradicts itself at last."""
    if question.task == "candidates":
        arrays = all_well(arrays)
        arrays["loss"] = arrays["loss"][:, [0, 1, 2, 3, 4, 3]]
        return arrays | {"clean": arrays["clean"][:, [1, 1, 1]]}
    if "clean" in arrays:
        # Probes are wanted of the purified model alone.
        return all_lost(arrays) if question.probes else all_well(arrays)
    return arrays


def test_nor_one_that_calls_everything_uncertain_and_so_has_it_run_in_full():
    with pytest.warns(FlainWarning, match="part 001, .* scores 60, and then 0"):
        result, _ = purify(all_uncertain, settings=Settings(tolerance=0.02))
    assert result.layers[0].flipped[TRIGGER].all()


def test_which_a_median_does_not_even_believe():
    settings = Settings(tolerance=0.02)
    result, _ = purify(all_uncertain, settings=settings, merging=Merging("median"))
    assert result.layers[0].method == "incremental"
    assert not any(step.recomputed for step in result.layers[0].steps[:-1])
    assert result.layers[0].flipped[TRIGGER].all()


AFTERWARDS = {
    "another probability of the trained model": (4, 55.0, "trained model gives its classes"),
    "more newly wrong than were right less": (2, 40.0, "40 samples cannot be newly wrong"),
}


@pytest.mark.parametrize(("index", "value", "told"), AFTERWARDS.values(), ids=AFTERWARDS)
def test_what_it_said_of_the_trained_model_is_held_against_it(index, value, told):
    def lie(question, arrays):
        if "loss" in arrays and not question.of_trained:
            arrays["loss"] = arrays["loss"].copy()
            arrays["loss"][-1, index] = value
        return arrays

    with pytest.warns(FlainWarning, match=f"part 001, .*{told}"):
        result, _ = purify(lie)
    assert_same_flips(result, without_the_second())


def test_the_trained_model_itself_can_have_lost_nothing():
    def lie(question, arrays):
        return all_lost(arrays) if "loss" in arrays else arrays

    with pytest.warns(FlainWarning, match="part 001, .* cannot have lost anything since itself"):
        result, _ = purify(lie)
    assert_same_flips(result, without_the_second())


def test_nor_one_that_changes_its_mind_where_all_is_run_in_full():
    asked = set()

    def lie(question, arrays):
        again = question.n_flipped and asked.issuperset(question.n_flipped)
        asked.update(question.n_flipped)
        return all_lost(arrays) if question.task == "in full" and again else arrays

    whole = never_cut(FINAL)
    with pytest.warns(FlainWarning, match="part 001, .* and then 0"):
        result, _ = purify(lie, final=whole)
    assert result.layers[0].method == "whole network"
    assert_same_flips(result, without_the_second(whole))


def test_one_who_claims_that_the_cut_is_wrong_costs_time_and_nothing_else():
    def lie(question, arrays):
        return arrays | {"faithful": np.array(0)} if question.task == "proof" else arrays

    result, holders = purify(lie)
    assert_same_flips(result, in_one_place(CLEAN))
    assert result.layers[0].method == "whole network"
    candidates = len(result.layers[0].steps)
    assert len(holders.asked) <= 4 + candidates / 16 + 1


def test_where_all_contradict_themselves_the_cut_is_to_blame():
    """Then the search is done again with the whole network, and nobody is left out."""

    def tamper(name, question, arrays):
        if question.task == "candidates" and question.n_flipped != (0,):
            return all_well(dict(arrays))
        return arrays

    data = CoordinatedSamples(InProcess(PARTS, lookahead=50, tamper=tamper), may_leave=True)
    result = flain.purify(FINAL, initial=INITIAL, data=data)
    assert result.layers[0].method == "whole network"
    assert_same_flips(result, in_one_place(CLEAN))


def test_candidates_that_are_run_in_full_are_those_that_were_asked_about():
    holder = Holder(FINAL, LocalSamples.of(CLEAN))
    initial, final = (each.layers()["fc1"].weight for each in (INITIAL, FINAL))
    state = ModelState(layer="fc1", initial=initial, order=np.arange(12))
    answer = holder.answer(Question("in full", state, n_flipped=(0, 3, 12)))
    for n_flipped, scored in zip((0, 3, 12), answer.scored, strict=True):
        weight = flain.flip(initial, final, np.arange(n_flipped))
        assert scored == LocalScorer(LocalSamples.of(CLEAN)).score_of(
            FINAL.replace({"fc1": weight})
        )


# --- What a possible lie can do ------------------------------------------------------------------

ANY = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.data(), st.integers(3, 9))
def test_merged_values_stay_within_those_of_the_honest(data, count):
    most = (count - 1) // 2
    for merging, liars in (
        (Merging("median"), most),
        (Merging("trimmed_mean", trim=0.2), max(1, int(0.2 * count))),
    ):
        honest = data.draw(st.lists(ANY, min_size=count - liars, max_size=count - liars))
        lies = data.draw(st.lists(ANY, min_size=liars, max_size=liars))
        tallies = [Tally(10 * each, 10) for each in (*honest, *lies)]
        merged = merging.tally(tallies).mean
        slack = 1e-9 * max(map(abs, honest))
        assert min(honest) - slack <= merged <= max(honest) + slack
