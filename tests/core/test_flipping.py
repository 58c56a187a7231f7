"""The paper's arithmetic, against numbers worked by hand and against its own laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import flain_core as flain
import flain_numpy
from flain_core.flipping import columns, only
from flain_core.flipping_order import FlippingOrder


def weights(shape):
    return arrays(np.float32, shape, elements=st.floats(-8, 8, width=32))


def test_flip_by_hand():
    initial = np.float32([[1, 2, 3], [4, 5, 6]])
    final = np.float32([[2, 0, 3], [4, 6, 9]])
    flipped = flain.flip(initial, final, np.array([False, True, True]))
    # 2·2 − 0 = 4, 2·3 − 3 = 3; 2·5 − 6 = 4, 2·6 − 9 = 3
    np.testing.assert_array_equal(flipped, [[2, 4, 3], [4, 4, 3]])
    assert flipped.dtype == np.float32


def test_reset_and_partial_factor_by_hand():
    initial, final = np.array([[1.0, 1.0]]), np.array([[3.0, 5.0]])
    np.testing.assert_array_equal(flain.flip(initial, final, [1], factor=1.0), [[3.0, 1.0]])
    np.testing.assert_array_equal(flain.flip(initial, final, [1], factor=1.5), [[3.0, -1.0]])


def test_grouped_convolution_by_hand():
    # Two groups of one row and two columns: input neuron 2 is column 0 of row 1 alone.
    initial = np.zeros((2, 2, 1, 1))
    final = np.arange(1.0, 5.0).reshape(2, 2, 1, 1)
    flipped = flain.flip(initial, final, np.array([2]), groups=2)
    np.testing.assert_array_equal(flipped[..., 0, 0], [[1, 2], [-3, 4]])


def test_only_one_neuron_of_a_grouped_convolution_by_hand():
    weight = np.arange(1.0, 9.0, dtype=np.float32).reshape(4, 2, 1)
    # Two groups of two rows: input neuron 3 is column 1 of the last two rows alone.
    alone = only(weight, np.array([3]), groups=2)
    np.testing.assert_array_equal(alone[..., 0], [[0, 0], [0, 0], [0, 6], [0, 8]])
    assert alone.dtype == np.float32
    assert alone.flags.c_contiguous
    rest = only(weight, np.array([True, True, True, False]), groups=2)
    np.testing.assert_array_equal(alone + rest, weight)


def test_depthwise_convolution_flips_one_row():
    initial, final = np.zeros((3, 1, 2)), np.ones((3, 1, 2))
    flipped = flain.flip(initial, final, np.array([False, True, False]), groups=3)
    np.testing.assert_array_equal(flipped[:, 0, 0], [1, -1, 1])


def test_low_activation_by_hand():
    mean = np.array([0.0, -1e-9, 0.1, 0.1000001])
    np.testing.assert_array_equal(flain.low_activation(mean, 0.1), [True, False, True, False])


def test_match_norm_by_hand():
    weight = np.float32([[3, 0], [0, 4]])
    np.testing.assert_allclose(flain.match_norm(weight, np.array([1.0])), [[0.6, 0], [0, 0.8]])
    np.testing.assert_array_equal(flain.match_norm(np.zeros((1, 2)), weight), [[0, 0]])


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_norms_are_matched_where_squares_leave_the_range(size):
    weight, reference = np.array([[3 * size, 4 * size]]), np.array([[10 * size]])
    np.testing.assert_allclose(flain.match_norm(weight, reference) / size, [[6, 8]])


@given(weights((3, 5)), weights((3, 5)), arrays(bool, 5))
def test_flipping_twice_is_the_identity(initial, final, neurons):
    once = flain.flip(initial, final, neurons)
    twice = flain.flip(initial, once, neurons)
    np.testing.assert_allclose(twice, final, atol=1e-5)
    np.testing.assert_array_equal(twice[:, ~neurons], final[:, ~neurons])


@given(weights((4, 3, 2)), weights((4, 3, 2)))
def test_empty_and_full_masks(initial, final):
    np.testing.assert_array_equal(flain.flip(initial, final, np.zeros(3, bool)), final)
    everything = flain.flip(initial, final, np.ones(3, bool))
    np.testing.assert_allclose(everything, 2 * initial - final, atol=1e-5)


@given(weights((4, 6)), weights((4, 6)), arrays(bool, 12), st.floats(0, 2))
def test_groups_are_independent_layers(initial, final, neurons, factor):
    grouped = flain.flip(initial, final, neurons, groups=2, factor=factor)
    halves = [
        flain.flip(initial[rows], final[rows], neurons[cols], factor=factor)
        for rows, cols in [(slice(0, 2), slice(0, 6)), (slice(2, 4), slice(6, 12))]
    ]
    np.testing.assert_array_equal(grouped, np.concatenate(halves))


@given(weights((3, 5)), arrays(bool, 5))
def test_mask_and_indices_are_the_same_thing(final, neurons):
    initial = np.zeros_like(final)
    np.testing.assert_array_equal(
        flain.flip(initial, final, neurons),
        flain.flip(initial, final, np.flatnonzero(neurons)[::-1]),
    )


def test_half_precision_is_rounded_once():
    initial, final = np.float16([[0.1]]), np.float16([[0.3]])
    exact = np.float32(final) - np.float32(2) * (np.float32(final) - np.float32(initial))
    flipped = flain.flip(initial, final, [True])
    assert flipped.dtype == np.float16
    np.testing.assert_array_equal(flipped, exact.astype(np.float16))


def test_half_precision_is_computed_in_single():
    # 1000 - 0.125 is no float16 (it would be 1000), so that a reset would give 0.
    initial, final = np.float16([[0.125]]), np.float16([[1000]])
    np.testing.assert_array_equal(flain.flip(initial, final, [0], factor=1.0), initial)
    network = flain_numpy.Network([flain_numpy.Dense("fc", final)])
    order = FlippingOrder(network, network.layers()["fc"], initial, 1.0, np.array([0]))
    assert order.change_by_neuron(np.array([0])).item() == 999.875


def test_inputs_are_left_alone():
    initial, final = np.zeros((2, 3)), np.ones((2, 3))
    flain.flip(initial, final, np.ones(3, bool))
    flain.match_norm(final, initial)
    assert (initial == 0).all()
    assert (final == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: flain.flip(np.zeros((2, 3)), np.zeros((3, 2)), [0]), flain.WeightsError, "shape"),
        (lambda: flain.flip(np.zeros(3), np.zeros(3), [0]), flain.WeightsError, "shape"),
        (
            lambda: flain.flip(np.zeros((2, 3), np.float32), np.zeros((2, 3)), [0]),
            flain.WeightsError,
            "float32 and float64",
        ),
        (lambda: flain.flip(np.zeros((2, 3)), np.ones((2, 3)), [3]), flain.SettingsError, "0 to 2"),
        (lambda: flain.flip(np.zeros((2, 3)), np.ones((2, 3)), [-1]), flain.SettingsError, "-1"),
        (
            lambda: flain.flip(np.zeros((2, 3)), np.ones((2, 3)), [True]),
            flain.SettingsError,
            "3 input neurons",
        ),
        (
            lambda: flain.flip(np.zeros((2, 3)), np.ones((2, 3)), [0], factor=4.5),
            flain.SettingsError,
            "0 to 4",
        ),
        (
            lambda: flain.flip(np.zeros((3, 3)), np.ones((3, 3)), [0], groups=2),
            flain.SettingsError,
            "groups",
        ),
        (
            lambda: flain.flip(np.float16([[-60000]]), np.float16([[60000]]), [0]),
            flain.WeightsError,
            "float16",
        ),
        (
            lambda: flain.flip(np.zeros((2, 4)), np.ones((2, 4)), [0, 0, 1, 1]),
            flain.SettingsError,
            "astype(bool)",
        ),
        (lambda: flain.match_norm(np.ones((2, 2), int), np.ones(1)), flain.WeightsError, "int"),
        (
            lambda: flain.match_norm(np.full((1, 1), 5e-324), np.ones(1)),
            flain.WeightsError,
            "range",
        ),
        (lambda: flain.low_activation(np.zeros((2, 2)), 0.1), flain.SettingsError, "(in,)"),
        (lambda: flain.low_activation(np.array([np.nan]), 0.1), flain.SettingsError, "NaN"),
    ],
)
def test_bad_input_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_columns_broadcast_over_kernels():
    assert columns(np.array([1]), (4, 3, 5, 5)).shape == (1, 3, 1, 1)
    assert columns(np.array([1]), (4, 3, 5, 5), groups=2).shape == (4, 3, 1, 1)
