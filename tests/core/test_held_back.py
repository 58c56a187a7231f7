"""Samples held back from the search bear out a promise."""

import numpy as np
import pytest

from flain_core import Settings
from flain_core.auxiliary.samples import Samples
from flain_core.in_memory.grader import Grader
from flain_core.in_memory.held_back import HeldBack
from flain_core.promise import Promise, most_newly_wrong

COUNT = 100
X = np.arange(COUNT, dtype=np.float32)[:, None]
SAMPLES = Samples.of((X, np.zeros(COUNT, int)))


class Wrong:
    """A network that gives class 1 to some samples, by their numbers, and class 0 to the others."""

    def __init__(self, *wrong):
        self.wrong, self.asked = wrong, 0

    def predict(self, x):
        self.asked += 1
        ones = np.isin(x[:, 0], self.wrong).astype(np.float32)
        return np.column_stack([1 - ones, ones]) * 4


def held_back(trained, settings, batch_size=None):
    return HeldBack(trained, SAMPLES, batch_size, Grader(), settings)


@pytest.mark.parametrize("batch_size", [None, 1, 30])
def test_newly_wrong_are_those_that_were_right_before(batch_size):
    """Sample 1 stays wrong, 2 becomes right, 3 and 99 become wrong."""
    found = held_back(Wrong(1, 2), Settings(), batch_size)
    assert found.newly_wrong(Wrong(1, 3, 99)) == 2
    assert found.newly_wrong(Wrong(1, 2)) == 0
    assert found.newly_wrong(Wrong()) == 0


def test_the_trained_model_is_run_once():
    trained = Wrong()
    found = held_back(trained, Settings())
    for _ in range(3):
        found.newly_wrong(Wrong(5))
    assert trained.asked == 1


def test_the_model_is_run_on_batches_of_the_size_asked_for():
    trained = Wrong()
    held_back(trained, Settings(), batch_size=30).newly_wrong(trained)
    assert trained.asked == 2 * 4


def test_what_was_counted_is_promised_where_nothing_was_asked_for():
    found = held_back(Wrong(1, 2), Settings(confidence=0.9))
    assert found.promise(Wrong(3, 4, 5)) == Promise.of(COUNT, 3, 0.9)


ASKED = Settings(promise=0.06, confidence=0.9)
"""Of 100 samples 2 may be newly wrong: P(Bin(100, 0.06) <= 2) = 0.057, of 3 it is 0.143."""


def candidates(*newly_wrong):
    networks = [Wrong(*range(count)) for count in newly_wrong]
    asked = []

    def candidate(network):
        return lambda: asked.append(network) or network

    return [candidate(network) for network in networks], asked


@pytest.mark.parametrize(
    ("newly_wrong", "kept", "opened"),
    [
        ((0, 1, 2), 3, 3),
        ((0, 1, 3), 2, 3),
        ((0, 3, 0, 1), 1, 2),  # those after a failure are not even looked at
        ((3, 0), 0, 1),
        ((100,), 0, 1),
        ((), 0, 0),
    ],
)
def test_the_walk_ends_at_the_first_candidate_that_fails(newly_wrong, kept, opened):
    assert most_newly_wrong(COUNT, 0.06, 0.9) == 2
    found = held_back(Wrong(), ASKED)
    some, asked = candidates(*newly_wrong)
    assert found.furthest(some) == kept
    assert len(asked) == opened


def test_the_promise_asked_for_is_given_whatever_was_counted():
    found = held_back(Wrong(), ASKED)
    assert found.promise(Wrong(7)) == Promise(0.06, 0.9, COUNT, 2)


def test_a_promise_that_allows_none_is_kept_by_candidates_that_lose_none():
    """Of 100 samples none may be newly wrong: P(Bin(100, 0.03) = 0) = 0.048, of 1 it is 0.195."""
    strict = Settings(promise=0.03, confidence=0.9)
    found = held_back(Wrong(), strict)
    assert found.furthest(candidates(0, 0, 1)[0]) == 2
    assert found.promise(Wrong()) == Promise(0.03, 0.9, COUNT, 0)


def test_all_is_kept_where_nothing_was_asked_for():
    some, asked = candidates(100, 100)
    assert held_back(Wrong(), Settings()).furthest(some) == 2
    assert asked == []


def test_too_few_samples_keep_no_candidate_and_promise_what_they_bear_out():
    settings = Settings(promise=0.01)
    assert most_newly_wrong(COUNT, 0.01, 0.95) == -1
    found = held_back(Wrong(), settings)
    some, asked = candidates(0, 0)
    assert found.furthest(some) == 0
    assert asked == []
    assert found.promise(Wrong()) == Promise.of(COUNT, 0, 0.95)


def test_held_back_samples_are_read_as_the_search_read_its_own():
    """Their logits are all from 0 to 1, which alone would look like probabilities of class 1."""

    class OneLogit:
        def __init__(self, logit):
            self.logit = logit

        def predict(self, x):
            return np.full((len(x), 1), self.logit, dtype=np.float32)

    samples = Samples.of((X, np.ones(COUNT, int)))
    grader = Grader()
    grader.recognise([np.array([[-3.0], [0.5]], dtype=np.float32)], [np.array([0, 1])])
    found = HeldBack(OneLogit(0.9), samples, None, grader, Settings())
    assert found.newly_wrong(OneLogit(0.1)) == 0
    assert found.newly_wrong(OneLogit(-0.1)) == COUNT
