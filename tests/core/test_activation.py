"""Activation statistics stream and merge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import flain_core as flain
from flain_core import ActivationStatistics

STATISTICS = ("mean", "mean_abs", "rms", "active_fraction")


def test_by_hand():
    # Two samples, two neurons, two positions.
    inputs = np.float32([[[1, -1], [0, 2]], [[3, 5], [0, 0]]])
    seen = ActivationStatistics().update(inputs)
    np.testing.assert_array_equal(seen.mean, [2.0, 0.5])
    np.testing.assert_array_equal(seen.mean_abs, [2.5, 0.5])
    np.testing.assert_array_equal(seen.rms, [3.0, 1.0])
    np.testing.assert_array_equal(seen.active_fraction, [0.75, 0.25])


@given(
    arrays(np.float32, (7, 3, 2), elements=st.floats(-100, 100, width=32)),
    st.lists(st.integers(0, 7), max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_is_the_same(inputs, cuts, random):
    parts = [part for part in np.split(inputs, sorted(cuts)) if len(part)]
    random.shuffle(parts)
    merged = ActivationStatistics()
    for part in parts:
        merged = ActivationStatistics().update(part).merge(merged)
    whole = ActivationStatistics().update(inputs)
    for statistic in STATISTICS:
        np.testing.assert_allclose(
            getattr(merged, statistic), getattr(whole, statistic), rtol=1e-12, atol=1e-12
        )


@given(arrays(np.float32, (6, 4), elements=st.floats(0, 10, width=32)))
def test_behind_a_relu_mean_and_mean_abs_are_equal(inputs):
    seen = ActivationStatistics().update(inputs)
    np.testing.assert_array_equal(seen.mean, seen.mean_abs)


def test_sums_are_float64():
    # In float32 the sum of these would stop growing at 2**24.
    inputs = np.ones((2**24 + 1000, 1), dtype=np.float32)
    assert ActivationStatistics().update(inputs).mean[0] == 1.0


def test_half_precision_squares_do_not_overflow():
    seen = ActivationStatistics().update(np.full((4, 1), 60000, dtype=np.float16))
    assert seen.rms[0] == pytest.approx(60000, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(flain.DataError, match="NaN or infinity"):
        ActivationStatistics().update(np.array([[0.0, bad]]))


def test_layers_of_different_width_do_not_merge():
    with pytest.raises(flain.DataError, match="2 and 3"):
        ActivationStatistics().update(np.ones((1, 2))).merge(
            ActivationStatistics().update(np.ones((1, 3)))
        )


def test_nothing_seen_has_no_mean():
    with pytest.raises(flain.DataError, match="at least one sample"):
        _ = ActivationStatistics().mean
