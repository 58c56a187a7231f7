"""Schedules and the search, without any model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import flain_core as flain
from flain_core import Grid, Settings, schedule
from flain_core.schedule import Schedule
from flain_core.score import Scored, Tally
from flain_core.search import search

activations = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)).filter(
    lambda a: (a >= 0).any()
)


class Scripted:
    """Candidates whose number of right samples, of 100, is written down."""

    def __init__(self, right, uncertain=None, exact=None, lookahead=1):
        self.lookahead = lookahead
        self.right, self.uncertain, self.exact = right, uncertain or {}, exact or {}
        self.asked, self.recomputed = [], []

    def advance(self, n_flipped):
        self.asked.extend(n_flipped)
        return [self.score(n) for n in n_flipped]

    def score(self, end):
        clean = Tally(self.right[end], 100, self.uncertain.get(end, 0))
        return Scored(clean, {"probe": Tally(end, 10)})

    def score_in_full(self, n_flipped):
        self.recomputed.append(n_flipped)
        return Tally(self.exact[n_flipped], 100)


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


def test_very_many_values_are_grouped_and_say_so(monkeypatch):
    monkeypatch.setattr(schedule, "MOST_EVENTS", 4)
    found = Schedule.of(np.linspace(0, 1, 11))
    assert found.grouped == 3
    assert found.n_flipped.tolist() == [3, 6, 9, 11]
    assert found.thresholds[-1] == 1


def test_a_layer_without_candidates_is_refused():
    with pytest.raises(flain.LayerError, match="mean_abs"):
        Schedule.of(np.array([-0.1, -0.2]))


def test_revert_returns_the_last_candidate_within_tolerance():
    candidates = Scripted({1: 100, 2: 99, 3: 98, 4: 100})
    found = search(FOUR, candidates, Settings(tolerance=0.01), Tally(100, 100))
    assert (found.step.threshold, found.step.neurons_flipped) == (0.2, 2)
    assert found.reason == "tolerance"
    assert [step.clean for step in found.steps] == [1.0, 0.99, 0.98]
    assert candidates.asked == [1, 2, 3]


def test_keep_returns_the_first_candidate_that_loses_the_tolerance():
    candidates = Scripted({1: 100, 2: 99, 3: 98, 4: 100})
    settings = Settings(tolerance=0.01, crossing="keep")
    found = search(FOUR, candidates, settings, Tally(100, 100))
    assert (found.step.threshold, found.reason) == (0.2, "tolerance")


def test_keep_with_tolerance_zero_stops_where_accuracy_does_not_rise():
    candidates = Scripted({1: 97, 2: 98, 3: 96, 4: 99})
    settings = Settings(tolerance=0, crossing="keep")
    assert search(FOUR, candidates, settings, Tally(96, 100)).step.neurons_flipped == 3


def test_a_first_threshold_that_flips_nothing_is_a_candidate():
    below = Schedule.of(np.array([0.1, 0.2]), Grid(start=0.05, step=0.05, stop=1))
    settings = Settings(tolerance=0, crossing="keep")
    found = search(below, Scripted({0: 90}), settings, Tally(90, 100))
    assert (found.step.threshold, found.step.neurons_flipped) == (0.05, 0)


def test_nothing_within_tolerance():
    found = search(FOUR, Scripted({1: 50}), Settings(), Tally(100, 100))
    assert found.step is None
    assert found.reason == "nothing within tolerance"


def test_a_tolerance_that_is_never_crossed_ends_at_the_last_candidate():
    found = search(FOUR, Scripted(dict.fromkeys(range(5), 100)), Settings(), Tally(100, 100))
    assert (found.step.neurons_flipped, found.reason) == (4, "exhausted")


def test_a_near_tie_that_could_change_the_decision_is_computed_exactly():
    settings = Settings(tolerance=0.01)
    candidates = Scripted(
        {1: 100, 2: 98, 3: 97, 4: 0}, uncertain={1: 0, 2: 1, 3: 1}, exact={2: 99, 3: 97}
    )
    found = search(FOUR, candidates, settings, Tally(100, 100))
    assert candidates.recomputed == [2]
    assert found.step.neurons_flipped == 2
    assert [step.recomputed for step in found.steps] == [False, True, False]


def test_a_near_tie_that_cannot_change_the_decision_costs_nothing():
    candidates = Scripted({1: 100, 2: 60}, uncertain={1: 1, 2: 5})
    search(FOUR, candidates, Settings(tolerance=0.02), Tally(100, 100))
    assert candidates.recomputed == []


def test_probes_are_reported_along_the_way():
    heard = []
    found = search(FOUR, Scripted({1: 100, 2: 0}), Settings(), Tally(100, 100), heard.append)
    assert [step.probes for step in found.steps] == [{"probe": 0.1}, {"probe": 0.2}]
    assert tuple(heard) == found.steps


def test_looking_ahead_changes_what_is_asked_and_nothing_else():
    right = {1: 100, 2: 99, 3: 98, 4: 100}
    settings = Settings(tolerance=0.01)
    one_by_one = search(FOUR, Scripted(right), settings, Tally(100, 100))
    for lookahead in (2, 3, 4, 100):
        candidates = Scripted(right, lookahead=lookahead)
        heard = []
        found = search(FOUR, candidates, settings, Tally(100, 100), heard.append)
        assert found == one_by_one
        assert tuple(heard) == one_by_one.steps
        assert candidates.asked == [1, 2, 3, 4][: -(-3 // lookahead) * lookahead]
