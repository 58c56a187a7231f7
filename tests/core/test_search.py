"""Schedules and the search, without any model."""

from dataclasses import replace

import numpy as np
import pytest
from by_neurons import by_neurons
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import flain_core as flain
from flain_core import Grid, Settings, schedule
from flain_core.schedule import Schedule
from flain_core.search import bracket, search
from flain_core.tallies import Loss, Scored, Tally

activations = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)).filter(
    lambda a: (a >= 0).any()
)


class Scripted:
    """Candidates whose number of right samples, of 100 or as told, is written down."""

    as_written = None

    def __init__(self, right, uncertain=None, exact=None, lookahead=1, losses=None, count=100):
        self.lookahead, self.losses, self.count = lookahead, losses or {}, count
        self.right, self.uncertain, self.exact = right, uncertain or {}, exact or {}
        self.asked, self.recomputed = [], []

    def advance(self, n_flipped):
        self.asked.extend(n_flipped)
        return [self.score(n) for n in n_flipped]

    def score(self, end):
        clean = Tally(self.right[end], self.count, self.uncertain.get(end, 0))
        return Scored(clean, {"probe": Tally(end, 10)}, self.losses.get(end))

    def score_in_full(self, n_flipped):
        self.recomputed.append(n_flipped)
        return Scored(Tally(self.exact[n_flipped], 100))


def right(count):
    """The score of a model that classifies so many of 100 samples right."""
    return Scored(Tally(count, 100))


def settings(tolerance=0.002, **options):
    return by_neurons(tolerance, **options)


def test_an_activation_that_overflows_is_refused():
    with pytest.raises(flain.LayerError, match="too large for a float64"):
        Schedule.of(np.array([0.1, np.inf]))


FOUR = Schedule.of(np.array([0.1, 0.2, 0.3, 0.4]))


@given(activations)
def test_without_a_grid_every_distinct_value_is_a_candidate(activation):
    found = Schedule.of(activation)
    np.testing.assert_array_equal(found.thresholds, np.unique(activation[activation >= 0]))
    for threshold, end in found:
        np.testing.assert_array_equal(
            found.flipped(end), flain.low_activation(activation, threshold)
        )


@given(activations, st.integers(1, 40))
def test_a_grid_keeps_the_first_threshold_of_each_distinct_candidate(activation, count):
    grid = Grid(start=0.0, step=1 / count, stop=1.0)
    found = Schedule.of(activation, grid)
    masks = [flain.low_activation(activation, threshold) for threshold in grid.thresholds()]
    expected = [
        threshold
        for i, threshold in enumerate(grid.thresholds())
        if i == 0 or (masks[i] != masks[i - 1]).any()
    ]
    np.testing.assert_array_equal(found.thresholds, expected)
    for threshold, end in found:
        np.testing.assert_array_equal(
            found.flipped(end), flain.low_activation(activation, threshold)
        )


@pytest.mark.parametrize(
    ("count", "ends"),
    [(4, [1, 2, 3, 4]), (9, [3, 6, 9]), (10, [3, 6, 9, 10]), (11, [3, 6, 9, 11])],
)
def test_very_many_values_are_grouped_and_say_so(monkeypatch, count, ends):
    monkeypatch.setattr(schedule, "MOST_EVENTS", 4)
    found = Schedule.of(np.linspace(0, 1, count))
    assert found.grouped == (1 if count == 4 else 3)
    assert found.n_flipped.tolist() == ends
    assert found.thresholds[-1] == 1
    # A grid is tried as it is.
    assert Schedule.of(np.linspace(0, 1, count), Grid(start=0.0, step=0.01, stop=1.0)).grouped == 1


def test_neurons_that_are_active_alike_keep_their_order():
    alike = np.tile(np.float32([0.5, 0.25]), 50)
    expected = [*range(1, 100, 2), *range(0, 100, 2)]
    found = Schedule.of(alike)
    assert found.order.tolist() == expected
    assert found.activation.dtype == np.float64
    assert Schedule.of_strengths(alike, np.array([1.0])).order.tolist() == expected


def test_variances_that_equal_a_strength_count_as_flipped():
    found = Schedule.of_strengths(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.5, 2.0]))
    assert [found.neurons(number) for number in range(4)] == [0, 1, 1, 2]
    assert found.flipped(3).tolist() == [False, True, True]


def test_a_layer_without_candidates_is_refused():
    with pytest.raises(flain.LayerError, match="mean_abs"):
        Schedule.of(np.array([-0.1, -0.2]))


def test_revert_returns_the_last_candidate_within_tolerance():
    candidates = Scripted({1: 100, 2: 99, 3: 98, 4: 100})
    found = search(FOUR, candidates, settings(tolerance=0.01), right(100))
    assert (found.step.threshold, found.step.neurons_flipped) == (0.2, 2)
    assert found.reason == "tolerance"
    assert [step.clean for step in found.steps] == [1.0, 0.99, 0.98]
    assert candidates.asked == [1, 2, 3]


def test_keep_returns_the_first_candidate_that_loses_the_tolerance():
    candidates = Scripted({1: 100, 2: 99, 3: 98, 4: 100})
    rule = settings(tolerance=0.01, crossing="keep")
    found = search(FOUR, candidates, rule, right(100))
    assert (found.step.threshold, found.reason) == (0.2, "tolerance")


def test_keep_with_tolerance_zero_stops_where_accuracy_does_not_rise():
    candidates = Scripted({1: 97, 2: 98, 3: 96, 4: 99})
    rule = settings(tolerance=0, crossing="keep")
    assert search(FOUR, candidates, rule, right(96)).step.neurons_flipped == 3


def test_a_first_threshold_that_flips_nothing_is_a_candidate():
    below = Schedule.of(np.array([0.1, 0.2]), Grid(start=0.05, step=0.05, stop=1))
    rule = settings(tolerance=0, crossing="keep")
    found = search(below, Scripted({0: 90}), rule, right(90))
    assert (found.step.threshold, found.step.neurons_flipped) == (0.05, 0)


def test_nothing_within_tolerance():
    found = search(FOUR, Scripted({1: 50}), settings(), right(100))
    assert found.step is None
    assert found.reason == "nothing within tolerance"


def test_a_tolerance_that_is_never_crossed_ends_at_the_last_candidate():
    found = search(FOUR, Scripted(dict.fromkeys(range(5), 100)), settings(), right(100))
    assert (found.step.neurons_flipped, found.reason) == (4, "exhausted")


def test_a_near_tie_that_could_change_the_decision_is_computed_exactly():
    rule = settings(tolerance=0.01)
    candidates = Scripted(
        {1: 100, 2: 98, 3: 97, 4: 0}, uncertain={1: 0, 2: 1, 3: 1}, exact={2: 99, 3: 97}
    )
    found = search(FOUR, candidates, rule, right(100))
    assert candidates.recomputed == [2]
    assert found.step.neurons_flipped == 2
    assert [step.recomputed for step in found.steps] == [False, True, False]
    # A full run is asked for the auxiliary samples alone.
    assert [step.probes["probe"] for step in found.steps] == [0.1, 0.2, 0.3]
    assert [step.rounding for step in found.steps] == [0, 0, 0.01]


def test_a_step_tells_what_was_lost_and_how_surely():
    # Two of four samples lost a half: the mean is 1/4, and the variance of a sample 1/12.
    loss = Loss(total=1.0, square=0.5, count=4, before=4.0)
    candidates = Scripted({1: 100, 2: 90}, losses={1: replace(loss, total=0, square=0), 2: loss})
    rule = Settings(measure="probability", tolerance=0.1)
    first, second = search(FOUR, candidates, rule, right(100)).steps
    assert (first.loss, first.loss_error) == (0, 0)
    assert (second.loss, second.loss_error) == (0.25, pytest.approx((1 / 48) ** 0.5))


def test_a_near_tie_that_cannot_change_the_decision_costs_nothing():
    candidates = Scripted({1: 100, 2: 60}, uncertain={1: 1, 2: 5})
    search(FOUR, candidates, settings(tolerance=0.02), right(100))
    assert candidates.recomputed == []


def test_probes_are_reported_along_the_way():
    heard = []
    found = search(FOUR, Scripted({1: 100, 2: 0}), settings(), right(100), heard.append)
    assert [step.probes for step in found.steps] == [{"probe": 0.1}, {"probe": 0.2}]
    assert tuple(heard) == found.steps


def test_looking_ahead_changes_what_is_asked_and_nothing_else():
    script = {1: 100, 2: 99, 3: 98, 4: 100}
    rule = settings(tolerance=0.01)
    one_by_one = search(FOUR, Scripted(script), rule, right(100))
    for lookahead in (2, 3, 4, 100):
        candidates = Scripted(script, lookahead=lookahead)
        heard = []
        found = search(FOUR, candidates, rule, right(100), heard.append)
        assert found == one_by_one
        assert tuple(heard) == one_by_one.steps
        assert candidates.asked == [1, 2, 3, 4][: -(-3 // lookahead) * lookahead]


STRENGTHS = Schedule.of_strengths(np.linspace(0.5, 30.0, 7), np.arange(1.0, 26.0))


def losing_from(number, count=25):
    """Candidates of which those from a number on lose too much."""
    return Scripted({each: 100 if each < number else 90 for each in range(count + 1)})


@pytest.mark.parametrize("crossing", ["revert", "keep"])
@pytest.mark.parametrize("count", [1, 2, 13, 14, 15, 25])
def test_few_tries_find_what_trying_all_in_order_finds(crossing, count):
    strengths = Schedule.of_strengths(STRENGTHS.activation, STRENGTHS.thresholds[:count])
    for first in range(1, count + 2):
        rule = settings(crossing=crossing)
        quick = losing_from(first, count)
        heard = []
        found = bracket(strengths, quick, rule, right(100), heard.append)
        expected = search(strengths, losing_from(first, count), rule, right(100))
        assert (found.step, found.number, found.reason) == (
            expected.step,
            expected.number,
            expected.reason,
        )
        assert len(quick.asked) == len(set(quick.asked)) <= strengths.most_tried
        assert list(found.numbers) == sorted(quick.asked)
        assert [step.threshold for step in found.steps] == [float(n) for n in found.numbers]
        assert sorted(heard, key=lambda step: step.threshold) == list(found.steps)


@pytest.mark.parametrize("from_number", [1, 2, 9, 12, 13, 14, 25])
def test_what_a_candidate_loses_when_it_is_written_counts_as_well(from_number):
    """The search judges samples as if each had been left out, which is not what is written."""
    script = losing_from(13)
    script.as_written = losing_from(from_number).score
    found = bracket(STRENGTHS, script, settings(tolerance=0.02), right(100))
    assert found.number == min(from_number, 13) - 1
    if found.number == 0:
        assert (found.step, found.reason) == (None, "nothing within tolerance")


def test_what_the_probability_loses_when_it_is_written_is_asked_of_no_candidate():
    script = losing_from(13)
    script.losses = {each: Loss(90.0 * (each > 12), count=100) for each in range(26)}
    script.as_written = lambda number: pytest.fail("it was asked")
    assert bracket(STRENGTHS, script, Settings(tolerance=0.02), right(100)).number == 12


@pytest.mark.parametrize("power", [0.5, 1, 2])
@pytest.mark.parametrize("last", [3, 10, 20, 24])
def test_what_grows_as_a_power_of_the_strength_is_found_in_few_tries(power, last):
    """The first one and the two between which it ends; more to learn another power."""
    many = 10**6
    lost = [round(many * 1e-3 * (number / (last + 0.5)) ** power) for number in range(26)]
    script = Scripted({number: many - each for number, each in enumerate(lost)}, count=many)
    found = bracket(STRENGTHS, script, settings(tolerance=1e-3), Scored(Tally(many, many)))
    assert found.number == last
    assert len(script.asked) <= (3 if power == 1 else 6)


def test_a_promise_leaves_weaker_candidates_to_go_back_to():
    script = losing_from(13)
    script.right[5] = 0
    rule = Settings(tolerance=0.002)
    asked = Settings(tolerance=0.002, promise=0.1)
    without = bracket(STRENGTHS, losing_from(13), rule, right(100))
    heard = []
    found = bracket(STRENGTHS, script, asked, right(100), heard.append)
    assert found.number == without.number == 12
    assert {11, 9, 5} <= set(found.numbers)
    permitted = [found.numbers[place] for place in found.permitted]
    assert {11, 9} <= set(permitted) <= set(range(1, 13)) - {5}
    assert permitted[-1] == 12
    assert [step.threshold for step in found.steps] == [float(n) for n in found.numbers]
    assert len(heard) == len(script.asked)


MANY = Schedule.of_strengths(np.ones(1), 1.5 ** np.arange(65))


@pytest.mark.parametrize(
    ("lost", "most"),
    [
        # What may be lost is 30. Lost at once, or almost at once: no expectation narrows the gap.
        (lambda number: 30 if number < 30 else 1000, 11),
        (lambda number: 0 if number < 30 else 31, 11),
        # Always just within, and always far beyond.
        (lambda _: 30, 5),
        (lambda _: 1000, 5),
    ],
)
def test_losses_that_suggest_nothing_take_few_tries_all_the_same(lost, most):
    script = Scripted({number: 1000 - lost(number) for number in range(1, 66)}, count=1000)
    rule, before = settings(tolerance=0.03), Scored(Tally(1000, 1000))
    found = bracket(MANY, script, rule, before)
    assert found.number == max((n for n in range(1, 66) if lost(n) <= 30), default=0)
    assert len(script.asked) <= most


@given(st.lists(st.integers(0, 100), min_size=25, max_size=25), st.sampled_from([None, 0.1]))
def test_the_choice_was_tried_and_the_next_one_loses_too_much(scores, promise):
    """Also where losses do not grow from one strength to the next."""
    script = Scripted(dict(enumerate([100, *scores])))
    good = [100 - score <= 30 for score in scores]
    found = bracket(STRENGTHS, script, Settings(tolerance=0.3, promise=promise), right(100))
    assert list(found.numbers) == sorted(script.asked)
    kept = [number for number in found.numbers if number <= found.number and good[number - 1]]
    assert [found.numbers[place] for place in found.permitted] == kept
    assert len(script.asked) <= STRENGTHS.most_tried
    if found.number:
        assert found.number in found.numbers
        assert good[found.number - 1]
        assert found.step.neurons_flipped == (STRENGTHS.activation <= found.number).sum()
    else:
        assert found.step is None
        assert found.reason == "nothing within tolerance"
    if found.reason == "exhausted":
        assert found.number == 25
    else:
        assert found.number + 1 in found.numbers
        assert not good[found.number]
