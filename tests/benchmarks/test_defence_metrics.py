"""Metrics of the defence harness, worked out by hand."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")
metrics = pytest.importorskip("defence.metrics")

TRUE = np.array([0, 0, 1, 1, 5, 5])


def test_accuracy_is_the_share_of_right_ones():
    assert metrics.accuracy(np.array([0, 1, 1, 1, 5, 0]), TRUE) == pytest.approx(4 / 6)


def test_images_of_the_target_class_count_towards_no_asr():
    predicted, five = np.array([5, 0, 5, 5, 5, 5]), np.full(6, 5)
    assert metrics.attack_success(predicted, TRUE, five) == 3 / 4
    assert metrics.attack_success(predicted, TRUE, five, source=0) == 1 / 2


def test_each_image_may_have_a_class_of_its_own_to_be_called():
    wanted = np.array([1, 1, 2, 2, 6, 6])
    predicted = np.array([1, 0, 2, 1, 5, 5])
    assert metrics.attack_success(predicted, TRUE, wanted) == 2 / 6
    assert metrics.attack_success(predicted, TRUE, wanted, source=1) == 1 / 2


def test_no_image_gives_no_rate():
    nothing = np.array([], dtype=int)
    assert math.isnan(metrics.accuracy(nothing, nothing))
    assert math.isnan(metrics.attack_success(*[np.array([5])] * 3))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((0.9, 0.9, 1.0, 0.0), 1.0),  # removed at no cost
        ((0.9, 0.9, 1.0, 1.0), 0.5),  # nothing done
        ((0.9, 0.7, 1.0, 0.5), 0.65),  # (0.5 - 0.2 + 1) / 2
        ((0.9, 0.95, 0.2, 0.6), 0.5),  # gains of ACC and of ASR count as none
        ((1.0, 0.0, 0.0, 1.0), 0.0),
    ],
)
def test_defence_effectiveness(rates, expected):
    assert metrics.defence_effectiveness(*rates) == pytest.approx(expected)


def test_repaired_images_do_not_hide_broken_ones():
    before, after = np.array([0, 1, 1, 1, 5, 0]), np.array([1, 0, 1, 0, 5, 5])
    assert metrics.newly_wrong(before, after, TRUE) == 2


def test_relearning_takes_as_many_rounds_as_until_the_rate_is_over_the_limit():
    assert metrics.rounds_until([0.1, 0.8, 0.81, 0.2]) == 3
    assert metrics.rounds_until([0.1, 0.8]) is None
