"""Every operation of a NumPy network computes what PyTorch does, or what was found by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_networks import close, numbers

import flain_numpy as fn
from flain_numpy.erf import erf

# By hand


def test_dense_by_hand() -> None:
    dense = fn.Dense("fc", np.array([[1, 2, 3], [4, 5, 6]]), np.array([10, 20]))
    assert dense(np.array([[1.0, 0.0, -1.0]])).tolist() == [[8.0, 18.0]]
    assert dense(np.ones((2, 4, 3))).tolist() == [[[16.0, 35.0]] * 4] * 2


def test_conv_by_hand() -> None:
    image = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    kernel = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    assert fn.Conv2d("c", kernel)(image).tolist() == [[[[-4.0, -4.0]]]]
    padded = fn.Conv2d("c", kernel, np.array([100.0]), padding=(0, 1))(image)
    assert padded.tolist() == [[[[96.0, 96.0, 96.0, 103.0]]]]


def test_depthwise_conv_keeps_channels_apart() -> None:
    x = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 10.0)])[None]
    conv = fn.Conv2d("c", np.array([2, 3, 5, 7]).reshape(4, 1, 1, 1), groups=2)
    assert conv(x)[0, :, 0, 0].tolist() == [2.0, 3.0, 50.0, 70.0]


def test_pooling_by_hand() -> None:
    x = -np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert fn.MaxPool2d(2)(x).tolist() == [[[[-1.0]]]]
    assert fn.MaxPool2d(3, 2, 1)(x).tolist() == [[[[-1.0, -2.0], [-4.0, -5.0]]]]
    assert fn.AvgPool2d((1, 3))(x).ravel().tolist() == [-2.0, -5.0, -8.0]
    assert fn.GlobalAvgPool2d()(x).tolist() == [[-5.0]]


def test_batch_norm_works_on_axis_1_of_any_rank() -> None:
    norm = fn.BatchNorm(np.array([1, 2]), np.array([3, 8]), np.array([2, 3]), np.array([0, 1]), 1.0)
    assert norm(np.array([[3.0, 5.0]])).tolist() == [[2.0, 4.0]]
    x = np.broadcast_to(np.array([3.0, 5.0])[:, None, None], (4, 2, 3, 5))
    assert norm(x)[2, :, 1, 4].tolist() == [2.0, 4.0]


def test_residual_adds_branch_and_shortcut() -> None:
    double, triple = (fn.Dense(name, np.eye(2) * by) for name, by in (("a", 2), ("b", 3)))
    x = np.array([[1.0, -1.0]])
    assert fn.Network([fn.Residual([double])]).predict(x).tolist() == [[3.0, -3.0]]
    assert fn.Network([fn.Residual([double], [triple])]).predict(x).tolist() == [[5.0, -5.0]]
    nested = fn.Residual([fn.ReLU(), fn.Residual([double])], [triple])
    assert fn.Network([nested, fn.ReLU()]).predict(x).tolist() == [[6.0, 0.0]]


def test_any_pure_function_is_an_operation() -> None:
    network = fn.Network([np.tanh, fn.Flatten()])
    assert close(network.predict(np.ones((2, 3))), np.full((2, 3), math.tanh(1)))


# Against the framework that users know


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_exact_to_its_type(dtype: Any) -> None:
    x = np.concatenate([np.linspace(-7, 7, 40_001), [0.0, -0.0, 1e-30, -1e30, math.inf]])
    x = x.astype(dtype)
    truth = np.array([math.erf(each) for each in x.tolist()])
    assert erf(x).dtype == dtype
    assert np.abs(erf(x) - truth).max() < max(5e-11, np.finfo(dtype).eps / 1.5)
    assert np.isnan(erf(np.array([np.nan], dtype))).all()


def test_activations_match_torch() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.concatenate([numbers(7, 30) * 4, np.array([[-90.0, 90.0] * 15], np.float32)])
    for ours, theirs in (
        (fn.ReLU(), functional.relu),
        (fn.GELU(), functional.gelu),
        (fn.GELU(approximate=True), lambda t: functional.gelu(t, approximate="tanh")),
        (fn.Tanh(), torch.tanh),
        (fn.Sigmoid(), torch.sigmoid),
        (fn.Softmax(), lambda t: functional.softmax(t, 1)),
        (fn.Softmax(axis=0), lambda t: functional.softmax(t, 0)),
    ):
        assert ours(x).dtype == np.float32
        assert close(ours(x), theirs(torch.from_numpy(x)).numpy(), 1e-6), ours


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(data=st.data())
@settings(max_examples=60)
def test_conv_matches_torch(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    groups, per_group, out_per_group = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation = (
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3)
    )
    padding: Any = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)) | st.just("same"))
    if padding == "same":
        stride = (1, 1)
    samples = data.draw(st.sampled_from([0, 1, 5]))
    x = numbers(samples, groups * per_group, 8, 7)
    weight = numbers(groups * out_per_group, per_group, *kernel)
    bias = data.draw(st.sampled_from([None, numbers(len(weight))]))
    conv = fn.Conv2d(
        "c", weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x),
        torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        stride,
        padding,
        dilation,
        groups,
    ).numpy()
    assert conv(x).shape == expected.shape
    assert not samples or close(conv(x), expected)


def test_conv_in_chunks_of_samples_matches_torch() -> None:
    torch = pytest.importorskip("torch")
    x, weight = numbers(70, 3, 20, 20), numbers(5, 3, 3, 3)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight))
    assert close(fn.Conv2d("c", weight)(x), expected.numpy())


def test_same_padding_with_a_stride_leaves_a_position_per_stride() -> None:
    weight = np.ones((1, 1, 3, 3))
    output = fn.Conv2d("c", weight, padding="same", stride=2)(np.ones((1, 1, 6, 5)))
    # As in Keras: an even height is padded below only, an odd width on both sides.
    assert output[0, 0].tolist() == [[6.0, 9.0, 6.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]


@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
)
@settings(max_examples=40)
def test_pooling_matches_torch(
    size: tuple[int, int], stride: tuple[int, int] | None, padded: bool
) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    padding = (size[0] // 2, size[1] // 2) if padded else (0, 0)
    x = numbers(3, 2, 8, 7)
    t = torch.from_numpy(x)
    largest = functional.max_pool2d(t, size, stride, padding).numpy()
    assert np.array_equal(fn.MaxPool2d(size, stride, padding)(x), largest)
    mean = functional.avg_pool2d(t, size, stride, padding).numpy()
    assert close(fn.AvgPool2d(size, stride, padding)(x), mean, 1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3)])
def test_batch_norm_matches_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x, mean, scale, shift = numbers(*shape), numbers(4), numbers(4, seed=1), numbers(4, seed=2)
    variance = numbers(4, seed=3) ** 2 + 0.1
    t = [torch.from_numpy(each) for each in (x, mean, variance, scale, shift)]
    expected = torch.nn.functional.batch_norm(*t, eps=1e-3).numpy()
    assert close(fn.BatchNorm(mean, variance, scale, shift, epsilon=1e-3)(x), expected, 1e-6)
    plain = torch.nn.functional.batch_norm(*t[:3]).numpy()
    assert close(fn.BatchNorm(mean, variance)(x), plain, 1e-6)
